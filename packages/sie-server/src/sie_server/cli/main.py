"""The `sie-server` command."""

import logging
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter
from cyclopts.config import Dict
from cyclopts.types import ExistingFile

from sie_server import __version__, logs
from sie_server.catalog.catalog import parse, shipped
from sie_server.cli.quick_imports import quick_imports
from sie_server.http.listener import listen
from sie_server.settings import Settings

_LOG = logging.getLogger(__name__)


def _shown(default: object) -> str | None:
    """A default in the help, as it is written on a command line; None: there is nothing to show."""
    if default in (None, "", ()) or default is False:
        return None
    return ", ".join(map(str, default)) if isinstance(default, tuple) else str(default)


app = cyclopts.App(
    name="sie-server",
    help="SIE: an inference engine for reranking.",
    version=__version__,
    version_flags=["--version"],
    default_parameter=Parameter(show_default=_shown),
)
# Imported when they are run, or for their --help: `serve` has no use for their tables and progress bars.
app.command("sie_server.cli.models:app", name="models", help="List, show, download and check models.")
app.command(
    "sie_server.cli.bench.command:bench",
    name="bench",
    help="Measure how fast a model is on this machine.",
    usage="Usage: sie-server bench [OPTIONS] [MODEL]",
)
app.command(
    "sie_server.cli.eval.command:evaluate",
    name="eval",
    help="Compare the ranking quality of models on your judged queries.",
)
app.command(
    "sie_server.cli.rerank.command:rerank",
    name="rerank",
    help="Rank documents in files by their relevance to a query.",
    usage="Usage: sie-server rerank [OPTIONS] [QUERY] [FILE]",
)
app.command(
    "sie_server.cli.plan.command:plan",
    name="plan",
    help="Plan how many replicas a load needs.",
    usage="Usage: sie-server plan --qps FLOAT [OPTIONS] [MODEL]",
)
app.command(
    "sie_server.cli.encode.command:encode",
    name="encode",
    help="Embed the texts in a file.",
    usage="Usage: sie-server encode [OPTIONS] [FILE]",
)
app.command("sie_server.cli.doctor:doctor", name="doctor", help="Check this machine.")
app.command("sie_server.cli.top.command:top", name="top", help="Show the state of running servers.")
# Those whose docstring is their help. In the list of commands they have the line above.
DOCUMENTED = ("bench", "eval", "rerank", "plan", "encode", "doctor", "top")
# Those that take some settings of the configuration file, and those of whose settings it has only these: their --model
# is not the list of what a server has.
_CONFIGURED = ("models", "bench", "plan", "doctor")
_OF_DEVICE = dict.fromkeys(("eval", "rerank", "encode"), ("device", "precision"))


def document(command: str) -> None:
    """Give a command the help of its docstring, in place of its line in the list of commands; imports it."""
    app[command].help = None


@app.meta.default
def launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Annotated[ExistingFile | None, Parameter(env_var="SIE_CONFIG")] = None,
) -> int | None:
    """SIE: an inference engine for reranking.

    Parameters
    ----------
    config
        TOML file with settings, named like the flags of `serve`, with underscores.
    """
    command = tokens[0] if tokens else ""
    # The file is for `serve`. Some commands take the settings that they have as well; the others do not read it.
    app.config = ()
    if config is not None and command in ("serve", *_CONFIGURED, *_OF_DEVICE):
        try:
            found = tomllib.loads(config.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            print(f"--config {config} can't be read: {error}", file=sys.stderr)
            return 2
        if command == "serve":
            app.config = (Dict(found, use_commands_as_keys=False, source=str(config)),)
        elif command in _CONFIGURED:
            app[command].config = (Dict(found, use_commands_as_keys=False, source=str(config), allow_unknown=True),)
        else:
            known = {name: value for name, value in found.items() if name in _OF_DEVICE[command]}
            app[command].config = (Dict(known, use_commands_as_keys=False, source=str(config)),)
    result: int | None = app(tokens)
    return result


@app.command(usage="Usage: sie-server serve [OPTIONS] [MODEL]")
def serve(served: Annotated[str | None, Parameter(name="MODEL")] = None, /, *, settings: Settings = Settings()) -> int:
    """Serve models over HTTP.

    Every flag can also be set by its environment variable, shown next to it, or in a TOML file (`--config FILE`).
    Flags take precedence over the environment, and the environment over the file.

    Parameters
    ----------
    served
        Model to load before the server reports ready, like --model and --preload together: a hub id, a folder, or
        NAME=FOLDER. The others are still served.
    """
    if served is not None:
        try:
            model_id = parse(served, shipped()).id
        except ValueError as error:
            print(error, file=sys.stderr)
            return 2
        settings = replace(settings, model=(served, *settings.model), preload=(model_id, *settings.preload))
    logs.configure(settings.log_level, as_json=settings.json_logs)
    # Before torch is imported, which takes a second: a port in use is reported at once, and clients wait to be answered
    # in place of being refused.
    try:
        listener = listen(settings.address, settings.port)
    except OSError as error:
        _LOG.error("%s", error)
        return 2
    with listener:
        with quick_imports():
            from sie_server.server import run

        return run(settings, listener)


@app.command
def openapi(output: Annotated[Path | None, Parameter(alias="-o")] = None, indent: int = 2) -> None:
    """Print the OpenAPI document.

    Parameters
    ----------
    output
        Write to this file instead.
    indent
        Spaces per level.
    """
    import msgspec

    from sie_server.api.openapi import openapi as document

    text = msgspec.json.format(msgspec.json.encode(document()), indent=indent).decode()
    if output is None:
        print(text)
    else:
        output.write_text(text + "\n")


def main() -> None:
    """Entry point of the installed command."""
    command = next((token for token in sys.argv[1:] if not token.startswith("-")), "")
    if command in DOCUMENTED:
        document(command)
    sys.exit(app.meta())
