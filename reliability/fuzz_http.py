"""schemathesis over `/openapi.json` of a live server: all routes, JSON and MessagePack bodies and answers.

    python reliability/fuzz_http.py                       # or with any option of `schemathesis run`

No answer may be a 5xx but those of the document, and each must be as the document says.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import schemathesis

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "packages/sie-server/tests"))

from live import EMBEDDED, serving  # noqa: E402 # the tests are no package

MSGPACK = "application/msgpack"
ACCEPTS = ("application/json", MSGPACK, "*/*")
# What a client can't send is left out, and so are bodies that are right where the document alone can't know.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@schemathesis.serializer(MSGPACK)
def pack(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """A body as MessagePack; what that can't say goes out as its text."""
    if isinstance(value, bytes):
        return value
    try:
        return bytes(msgpack.packb(value))
    except (OverflowError, TypeError, ValueError):
        return repr(value).encode()


@schemathesis.deserializer(MSGPACK)
def unpack(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """An answer, with arrays as the lists that JSON has."""
    return _listed(msgpack.unpackb(response.content, object_hook=msgpack_numpy.decode))


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_listed(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case, __: Any) -> None:
    """Most requests are for a model that there is, in turn for each kind of answer."""
    number = sum(map(ord, repr(case.body)))
    if "model" in case.path_parameters and number % 4:
        case.path_parameters["model"] = EMBEDDED
    if isinstance(case.body, dict) and "model" in case.body and number % 4:
        case.body["model"] = EMBEDDED
    case.headers["Accept"] = ACCEPTS[number % len(ACCEPTS)]


def main() -> int:
    """Run it, and return its exit status: 0 when nothing was found."""
    with serving("--log-level=error") as server:
        command = [Path(sys.executable).with_name("schemathesis"), "run", f"{server.url}/openapi.json"]
        options = ["--checks", CHECKS, "--continue-on-failure", "--suppress-health-check=all", *sys.argv[1:]]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_http", "PYTHONPATH": str(Path(__file__).parent)}
        status = subprocess.run([*command, *options], env=environment, check=False).returncode
        print(server.log, file=sys.stderr)
        return status or int("Traceback" in server.log)


if __name__ == "__main__":
    sys.exit(main())
