"""The command line: one dataclass, three sources, clear refusals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from live import EMBEDDED

from sie_server import cli
from sie_server.settings import Settings


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `serve` would have been started with."""
    seen: list[Settings] = []
    monkeypatch.setattr("sie_server.server.run", lambda settings: seen.append(settings) or 0)
    return seen


def serve(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["serve", *arguments])
    assert exit_.value.code == 0


def test_defaults(served: list[Settings]) -> None:
    serve()
    assert served == [Settings()]


def test_flags_win_over_environment_over_file(
    served: list[Settings], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "sie.toml"
    file.write_text('port = 1\nload_wait = 2.5\nprecision = "float32"\nmodel = ["a/b", "c/d"]\n')
    monkeypatch.setenv("SIE_LOAD_WAIT", "3.5")
    monkeypatch.setenv("SIE_PRELOAD_MODELS", "x, y")
    serve("--config", str(file), "--port", "7")
    [settings] = served
    assert settings.port == 7
    assert settings.load_wait == 3.5
    assert settings.precision == "float32"
    assert settings.model == ("a/b", "c/d")
    assert settings.preload == ("x", "y")


def test_repeatable_flags(served: list[Settings]) -> None:
    serve("--model", "a/b", "--model", "c=d", "--preload", "a/b")
    assert served[0].model == ("a/b", "c=d")
    assert served[0].preload == ("a/b",)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--port", "70000"], "65535"),
        (["--precision", "int4"], "int4"),
        (["--no-such-flag"], "no-such-flag"),
        (["--max-items", "0"], "1"),
        (["--cors-origins", "search.example"], "search.example"),
        (["--cors-origins", "https://search.example/"], "search.example/"),
        (["--config", "/nonexistent.toml"], "nonexistent"),
    ],
)
def test_bad_flags_are_refused_by_name(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, FileNotFoundError)) as exit_:
        cli.app.meta(["serve", *flags])
    output = capsys.readouterr()
    assert words in output.out + output.err + str(exit_.value)


def test_every_setting_has_an_environment_variable_and_a_description(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.app.meta(["serve", "--help"])
    text = capsys.readouterr().out
    assert "\u2502" in text
    text = " ".join(text.replace("\u2502", "").split())
    for name in Settings.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in text
        assert f"\n    {name}\n" in (Settings.__doc__ or ""), name
    assert text.count("env var: SIE_") == len(Settings.__dataclass_fields__) + 1


@pytest.mark.parametrize("command", ["--help", "models list", f"models show {EMBEDDED}", f"models pull {EMBEDDED}"])
def test_what_computes_nothing_does_not_wait_for_torch(command: str) -> None:
    program = f"""
import sys
from sie_server import cli
try:
    cli.app.meta({command.split()})
except SystemExit as exit:
    sys.exit(exit.code or "torch" in sys.modules)
"""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30, env=environment
    )
    assert run.returncode == 0, run.stderr


def test_openapi_is_written(tmp_path: Path) -> None:
    target = tmp_path / "openapi.json"
    with pytest.raises(SystemExit):
        cli.app.meta(["openapi", "--output", str(target)])
    assert '"/v1/score/{model}"' in target.read_text()
