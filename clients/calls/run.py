"""Run the calls of one environment against a server, and write down what became of each.

    python run.py GROUP VERDICTS [CLIENT] <TARGET

GROUP: a folder beside this file, of modules that register calls. TARGET: a JSON object with the fields of `Target`.
VERDICTS: a file to write, with a JSON object for each call. CLIENT: part of the names of the clients to run. Only the
loopback interface can be reached.
"""

import asyncio
import importlib
import inspect
import json
import signal
import sys
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

from harness import CALLS, Call, Target, WrongError, message

_LOCAL = ("127.0.0.1", "localhost", "::1", None, "")
_SECONDS = 60


def only_local(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse a connection, or a name to resolve, beyond the loopback interface (an audit hook)."""
    if event == "socket.connect":
        address = arguments[1]
        if isinstance(address, tuple) and address[0] not in _LOCAL:
            raise PermissionError(f"a test must not connect to {address[0]}")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and arguments[0] not in _LOCAL:
        host = arguments[0].decode() if isinstance(arguments[0], bytes) else arguments[0]
        if host not in _LOCAL:
            raise PermissionError(f"a test must not look up {host}")


def too_long(*_: object) -> None:
    """End a call that hangs."""
    raise TimeoutError(f"the call took over {_SECONDS} s")


def verdict(function: Call, target: Target) -> tuple[str, str]:
    """The verdict on a call ("works", "error" or "wrong"), and the client's or the check's words."""
    signal.alarm(_SECONDS)
    try:
        result = function(target)
        if inspect.isawaitable(result):

            async def awaited() -> None:
                await result

            asyncio.run(awaited())
    except WrongError as error:
        return "wrong", str(error)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        return "error", f"{message(error)} ({Path(where.filename).name}:{where.lineno})"
    finally:
        signal.alarm(0)
    return "works", ""


def main() -> None:
    """Import the modules of a group, which register their calls, and run these in order."""
    group, path = sys.argv[1], Path(sys.argv[2])
    chosen = sys.argv[3] if len(sys.argv) > 3 else ""
    sys.addaudithook(only_local)
    signal.signal(signal.SIGALRM, too_long)
    warnings.simplefilter("ignore")
    target = Target(**json.load(sys.stdin))
    for module in sorted((Path(__file__).parent / group).glob("*.py")):
        if chosen in module.read_text():
            importlib.import_module(f"{group}.{module.stem}")
    with path.open("w") as verdicts:
        for (client, name), function in CALLS.items():
            if chosen not in client:
                continue
            started = time.monotonic()
            what, said = verdict(function, target)
            seconds = round(time.monotonic() - started, 2)
            line = {"client": client, "call": name, "verdict": what, "said": said[:2000], "seconds": seconds}
            verdicts.write(json.dumps(line) + "\n")
            verdicts.flush()


if __name__ == "__main__":
    main()
