"""Fuzzing with schemathesis by the `/openapi.json` of a live server: all routes, JSON and MessagePack.

    python reliability/fuzz_http.py                       # or with any option of `schemathesis run`

Answers must conform to the document, which also lists the permitted 5xx errors.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgpack
import msgpack_numpy
import schemathesis

from sie_server.api.dialects.fields import RerankFields
from sie_server.api.embed_dialects.fields import EmbedFields
from sie_server.api.request_options import TIMEOUT
from sie_testing.serving import EMBEDDED, Server

MSGPACK = "application/msgpack"
ACCEPTS = ("application/json", MSGPACK, "*/*")
FIELDS = {*RerankFields.__struct_fields__, *EmbedFields.__struct_fields__}
# Without checks of headers that clients can't send, and of bodies whose validity the document can't express.
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


@schemathesis.serializer(MSGPACK)
def pack(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """Encode a body in MessagePack; values that it can't encode are sent as their repr."""
    if isinstance(value, bytes):
        return value
    try:
        return bytes(msgpack.packb(value))
    except (OverflowError, TypeError, ValueError):
        return repr(value).encode()


@schemathesis.deserializer(MSGPACK)
def unpack(_: schemathesis.DeserializationContext, response: schemathesis.Response) -> Any:
    """Decode an answer, with arrays as lists, as in JSON."""
    return _listed(msgpack.unpackb(response.content, object_hook=msgpack_numpy.decode))


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_listed(inner) for inner in value]
    return value.tolist() if hasattr(value, "tolist") else value


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], __: Any) -> None:
    """Use an existing model in most requests, and each kind of answer in turn."""
    number = sum(map(ord, repr(case.body)))
    if "model" in case.path_parameters and number % 4:
        case.path_parameters["model"] = EMBEDDED
    if isinstance(case.body, dict) and "model" in case.body and number % 4:
        case.body["model"] = EMBEDDED
    case.headers["Accept"] = ACCEPTS[number % len(ACCEPTS)]
    if TIMEOUT in case.headers:  # most of the generated deadlines cannot be met, which is a 504
        case.headers[TIMEOUT] = "60"
    example = _example(case.operation.definition.raw)
    if isinstance(case.body, dict) and number % 3 and example is not None and not case.path_parameters:
        # Of the routes of other APIs, which refuse a body without texts, and with fields that nobody knows.
        case.body = {**{name: value for name, value in case.body.items() if name in FIELDS}, **example}


def _example(operation: Any) -> dict[str, Any] | None:
    """The example of an operation's body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    found: dict[str, Any] | None = content.get("example")
    return found


def main() -> int:
    """Run schemathesis; returns its exit status, 0 if nothing was found."""
    with Server("--preload", EMBEDDED, "--log-level=error") as server:
        command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json"]
        options = ["--checks", CHECKS, "--continue-on-failure", "--suppress-health-check=all", *sys.argv[1:]]
        environment = {**os.environ, "SCHEMATHESIS_HOOKS": "fuzz_http", "PYTHONPATH": str(Path(__file__).parent)}
        status = subprocess.run([*command, *options], env=environment, check=False).returncode
        print(server.log, file=sys.stderr)
        return status or int("Traceback" in server.log)


if __name__ == "__main__":
    sys.exit(main())
