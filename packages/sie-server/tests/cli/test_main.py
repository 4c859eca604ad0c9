"""The command line: one dataclass, three sources, clear refusals."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from sie_server.cli import main as cli
from sie_server.settings import Settings
from sie_testing.serving import EMBEDDED


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """What `serve` would have been started with."""
    seen: list[Settings] = []
    monkeypatch.setattr("sie_server.server.run", lambda settings, _: seen.append(settings) or 0)
    monkeypatch.setattr(cli, "listen", lambda *_: nullcontext())
    monkeypatch.setattr(cli.logs, "configure", lambda *_, **__: None)
    return seen


def serve(*arguments: str) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["serve", *arguments])
    assert exit_.value.code == 0


def test_clients_can_connect_before_torch_is_imported() -> None:
    program = """
import socket, sys
from sie_server.cli import main as cli
class Server:
    def run(settings, listener):
        socket.create_connection(listener.getsockname(), timeout=5).close()
        return int("torch" in sys.modules)
sys.modules["sie_server.server"] = Server
cli.app.meta(["serve", "--port=0"])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0


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


@pytest.mark.parametrize(
    ("flags", "address"),
    [([], "127.0.0.1"), (["--host", "::"], "::"), (["--api-keys", "k"], "0.0.0.0")],
)
def test_without_keys_only_this_machine_reaches_it_unless_told(
    served: list[Settings], flags: list[str], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(*flags)
    monkeypatch.setenv("SIE_HOST", "0.0.0.0")
    serve(*flags)
    assert [settings.address for settings in served] == [address, "::" if "::" in flags else "0.0.0.0"]


def test_a_model_as_argument_is_allowed_and_preloaded(served: list[Settings], tmp_path: Path) -> None:
    serve("acme/reranker", "--model", "a/b", "--preload", "a/b")
    serve(str(tmp_path))
    serve(f"legal={tmp_path}")
    named = [(settings.model, settings.preload) for settings in served]
    assert named[0] == (("acme/reranker", "a/b"), ("acme/reranker", "a/b"))
    assert named[1] == ((str(tmp_path),), (tmp_path.name,))
    assert named[2] == ((f"legal={tmp_path}",), ("legal",))


def test_commands_without_settings_run_with_a_file_of_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sie.toml"
    file.write_text('port = 1\nmodel = ["a/b"]\nurl = "http://nowhere.invalid"\n')
    monkeypatch.setenv("SIE_CONFIG", str(file))
    for command in (["top", "--once", "--url", "http://127.0.0.1:9"], ["eval", str(tmp_path)]):
        with pytest.raises(SystemExit) as exit_:
            cli.app.meta(command)
        assert exit_.value.code in (1, 2)
        said = capsys.readouterr()
        assert "Unknown option" not in said.out + said.err
        assert "nowhere" not in said.out + said.err


def test_a_model_argument_that_is_not_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["serve", "./nowhere"])
    assert exit_.value.code == 2
    assert capsys.readouterr().err == "no such folder: nowhere\n"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (
            ["--preload", "acme/unknown"],
            "--preload acme/unknown: not in the catalogue; allow it with --model acme/unknown",
        ),
        (
            ["--pinned", "acme/unknown"],
            "--pinned acme/unknown: not in the catalogue; allow it with --model acme/unknown",
        ),
        (["--model", "./nowhere"], "--model ./nowhere: no such folder: nowhere"),
        (["--catalogue", "BAAI/bge-m4"], "--catalogue BAAI/bge-m4: not in the catalogue."),
        (["--models-dir", "/nowhere"], "--models-dir /nowhere: no such folder"),
        (["--host", "nowhere.invalid"], "cannot listen on nowhere.invalid:"),
    ],
)
def test_a_model_that_can_not_be_served_exits_with_2(
    flags: list[str], sentence: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sie_server.logs.configure", lambda *_, **__: None)
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(["serve", "--port", "0", *flags])
    assert exit_.value.code == 2
    assert sentence in caplog.text


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "model.safetensors"),
        (["config.json"], "model.safetensors"),
        (["model.safetensors"], "no config.json"),
        (["config.json", "pytorch_model.bin"], "pickled"),
    ],
)
def test_a_folder_that_holds_no_model_is_named_at_the_start(
    files: list[str],
    words: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sie_server.logs.configure", lambda *_, **__: None)
    folder = tmp_path / "legal"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(b"")
    for arguments in ([str(folder)], ["--model", f"x={folder}", "--preload", "x"]):
        with pytest.raises(SystemExit) as exit_:
            cli.app.meta(["serve", "--port", "0", *arguments])
        assert exit_.value.code == 2
        [record] = caplog.records
        assert str(folder) in record.getMessage()
        assert words in record.getMessage()
        caplog.clear()


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
def test_commands_that_compute_nothing_do_not_import_torch(command: str) -> None:
    program = f"""
import sys
from sie_server.cli import main as cli
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


@pytest.mark.parametrize("command", ["serve", "bench", "rerank"])
def test_a_malformed_configuration_file_is_named(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "sie.toml"
    file.write_text("port = [")
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta([command, "--config", str(file)])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith(f"--config {file} can't be read: ")


@pytest.mark.parametrize("command", ["bench", "eval", "rerank", "plan", "encode", "doctor", "top"])
def test_help_has_more_than_the_line_of_the_list(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sie_server", command, "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert command in cli.DOCUMENTED
    head, _, _ = done.stdout.partition("╭")
    assert len(head.strip().splitlines()) > 1


@pytest.mark.parametrize(
    "tokens",
    [("rerank", "--modle", "x"), ("rerank", "q", "--modle", "x"), ("rerank", "q", "--modle"), ("encode", "--modle")],
)
def test_a_misspelled_option_is_no_text_and_no_file(
    tokens: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        cli.app.meta(tokens)
    assert exit_.value.code == 2
    said = capsys.readouterr()
    assert "nknown option" in said.out + said.err
    assert "--modle" in said.out + said.err


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("serve", "serve [OPTIONS] [MODEL]"),
        ("rerank", "rerank [OPTIONS] [QUERY] [FILE]"),
        ("encode", "encode [OPTIONS] [FILE]"),
        ("eval", "eval [OPTIONS] DATASET"),
        ("bench", "bench [OPTIONS] [MODEL]"),
        ("plan", "plan --qps FLOAT [OPTIONS] [MODEL]"),
        ("top", "top [OPTIONS]"),
        ("doctor", "doctor [OPTIONS]"),
        ("models show", "models show [OPTIONS] MODEL"),
    ],
)
def test_help_is_for_people_who_know_no_python(command: str, usage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.app.meta([*command.split(), "--help"])
    shown = capsys.readouterr().out
    assert ended.value.code == 0
    assert shown.splitlines()[0] == f"Usage: sie-server {usage}"
    for python in ("()", "ID_", "ARGS", "None", "default: False", "',)"):
        assert python not in shown
