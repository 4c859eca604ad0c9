"""The package is small to import."""

import json
import subprocess
import sys

PROGRAM = """
import json, sys, time
start = time.process_time()
import sie_sdk
print(json.dumps([time.process_time() - start, sorted(sys.modules)]))
"""


def test_import_is_fast_and_light():
    runs = [subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True) for _ in range(3)]
    seconds, modules = zip(*(json.loads(run.stdout) for run in runs), strict=True)
    unused = {"torch", "httpx2", "aiohttp", "asyncio", "msgpack", "wsproto", "PIL", "pydantic"}
    assert set(modules[0]).isdisjoint(unused)
    # Processor time, and the best of three: the rest is what else the machine was doing.
    assert min(seconds) < 0.3
