"""Importing the package is cheap."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys
import sie_sdk
print(json.dumps(sorted(sys.modules)))
"""


def test_import_loads_no_unused_library():
    run = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True)
    unused = {"torch", "httpx2", "aiohttp", "asyncio", "msgpack", "wsproto", "pydantic"}
    assert set(json.loads(run.stdout)).isdisjoint(unused)
