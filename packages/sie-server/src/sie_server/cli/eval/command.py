"""`sie-server eval`: the ranking quality and the speed of models on judged queries."""

import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.progress import Progress

from sie_server.cli import output as outputs
from sie_server.cli.eval.bm25 import Language
from sie_server.cli.exit_status import BAD_INPUT, FAILED, INTERRUPTED, UNAVAILABLE
from sie_server.cli.flag_types import Count
from sie_server.cli.output import Json
from sie_server.errors import LoadError, SIEError
from sie_server.options import LongDocuments
from sie_server.settings import ChosenPrecision, Device

if TYPE_CHECKING:
    from sie_server.cli.eval.figures import Results

# Modules of the extra `eval`, and the packages that have them.
_PACKAGES = {"ir_measures": "ir-measures", "scipy": "scipy"}
_PACKAGES_OF_BM25 = {"bm25s": "bm25s", "Stemmer": "PyStemmer"}


def evaluate(
    dataset: Path,
    /,
    *,
    model: Annotated[tuple[str, ...], Parameter(alias="-m", negative=())] = (),
    url: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    run: Path | None = None,
    split: str | None = None,
    depth: Count = 100,
    metrics: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    relevance_level: Count = 1,
    bm25_language: Language | None = None,
    instruction: str | None = None,
    long_documents: LongDocuments | None = None,
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    concurrency: Count = 1,
    as_json: Json = False,
) -> int:
    """Compare the ranking quality of models on your judged queries.

    Each model reranks the same candidates of each query. They come from a run, from the order in the dataset,
    or else from BM25. The table has a row for them, for every model, and for the best order of the candidates,
    with the speed.

    With --output, each score is saved as soon as it is computed. The same command continues where a run was
    stopped, and adds new models. The folder also gets results.json and report.html.

    Exit status: 0, everything was evaluated; 1, a model refused queries, as the notes below the table say, or
    the output can't be written; 2, a flag, the dataset or the folder is wrong; 3, a model or a server is not
    available; 130, it was interrupted.

    Parameters
    ----------
    dataset
        Folder in BEIR's format (corpus.jsonl, queries.jsonl, and qrels/test.tsv or qrels.tsv), or a file of JSON Lines:
        {"query": "…", "documents": ["…", …], "relevant": [0, …]}.
    model
        Hub id, folder, NAME=FOLDER or ID:PROFILE; or NAME@URL, for one at another URL than --url. Repeatable.
    url
        URL of a running server, or DIALECT:URL for another API, such as cohere:https://api.cohere.com; its key comes
        from the environment. Without one, models run in this process.
    output
        Folder for scores, results and report.
    run
        TREC run with the candidates, in place of BM25.
    split
        Name of the judgments in qrels; by default, test.
    depth
        Candidates per query.
    metrics
        Measures by their ir-measures names, parted by commas, the main one first; by default, nDCG@10,RR@10,R@10,AP.
        Repeatable.
    relevance_level
        Least grade of a relevant document.
    bm25_language
        Language of the stop words and the stemmer of BM25; by default, english. none: neither.
    instruction
        Instruction for models that take one.
    long_documents
        What happens to documents that are longer than the model allows; by default, as the model has it.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one. For models in this process.
    precision
        Precision of the matrix products; auto: the fastest here of float32 and bfloat16. For models in this process.
    concurrency
        Requests at once. With more than one, latencies include waiting for the others.
    as_json
        Print results.json in place of the table.
    """
    # BM25 is for a folder without a run.
    needed = {**_PACKAGES_OF_BM25, **_PACKAGES} if run is None and dataset.is_dir() else _PACKAGES
    if missing := [package for module, package in needed.items() if find_spec(module) is None]:
        return _said(
            f"`sie-server eval` needs more packages. Install them with: pip install {' '.join(missing)}", BAD_INPUT
        )
    from sie_server.cli.eval import measures
    from sie_server.cli.eval.contender import Options, contenders
    from sie_server.cli.eval.results import MOST_MODELS, results
    from sie_server.cli.eval.run import Runner, bars, read
    from sie_server.cli.rankers.ranker import RankerError, UnavailableError
    from sie_server.cli.streaming.lines import FaultError

    runner: Runner | None = None
    interrupt = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        options = Options(instruction, long_documents, device, precision, concurrency)
        compared = contenders(model, url, options)
        if len(compared) > MOST_MODELS:
            raise ValueError(f"--model can be given {MOST_MODELS} times at most.")
        chosen = measures.parse(metrics, relevance_level)
        with Progress(*bars(), console=Console(stderr=True)) as progress:
            judged = read(
                dataset,
                split=split,
                run=run,
                depth=depth,
                relevance_level=relevance_level,
                language=bm25_language,
                progress=progress,
            )
            runner = Runner(judged, compared, output, progress)
            runner.prepare()
            contests = runner.score()
            task = progress.add_task("computing the figures", total=None)
            found = results(judged, contests, chosen, relevance_level)
            progress.remove_task(task)
        if output is not None:
            from sie_server.cli.eval.report.page import write

            write(found, output)
    except KeyboardInterrupt:
        return _said(_stopped(output if runner is not None else None), INTERRUPTED)
    except (LoadError, UnavailableError, SIEError) as error:
        return _said(f"{getattr(error, 'message', error)}{_kept(output if runner is not None else None)}", UNAVAILABLE)
    except RankerError as error:
        return _said(str(error), FAILED)
    except (FaultError, ValueError) as error:
        return _said(str(error), BAD_INPUT)
    except OSError as error:
        return _said(f"{error.filename}: {error.strerror}", FAILED)
    finally:
        signal.signal(signal.SIGTERM, interrupt)
    _show(found, output, as_json)
    return FAILED if any(row.failures for row in found.rows) else 0


def _show(found: "Results", output: Path | None, as_json: bool) -> None:
    from sie_server.cli.eval.table import notes, tables

    if as_json:
        outputs.print_json(found)
        return
    console = outputs.console()
    for table in tables(found, console):
        console.print(table)
    for note in notes(found):
        console.print(note, style="dim", highlight=False, markup=False)
    if output is None:
        note = "Nothing was saved. --output FOLDER keeps the scores, and writes results.json and report.html."
        console.print(note, highlight=False)
    else:
        console.print(f"The report is {output / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _stopped(output: Path | None) -> str:
    if output is None:
        return "Interrupted. Nothing was saved, because there is no --output."
    return f"Interrupted. {_so_far(output)}"


def _kept(output: Path | None) -> str:
    return "" if output is None else f"\n{_so_far(output)}"


def _so_far(output: Path) -> str:
    return f"The scores so far are in {output}, and the same command continues from there."


def _said(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status
