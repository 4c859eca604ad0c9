"""`sie-server rerank`: ranks documents in files, in this process or by a server."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sie_server.cli.flag_types import Count, Flag
from sie_server.cli.rerank.texts import Input
from sie_server.cli.streaming.input_file import InputFile
from sie_server.options import LongDocuments
from sie_server.settings import ChosenPrecision, Device


def rerank(
    query: str | None = None,
    file: InputFile = None,
    /,
    *,
    model: Annotated[str | None, Parameter(alias="-m")] = None,
    url: str | None = None,
    top: Annotated[Count | None, Parameter(alias="-n")] = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    format_: Annotated[Literal["text", "tsv", "jsonl", "trec"] | None, Parameter(name="--format")] = None,
    input_: Annotated[Input, Parameter(name="--input")] = "auto",
    run: Path | None = None,
    corpus: Path | None = None,
    queries: Path | None = None,
    depth: Count | None = None,
    instruction: str | None = None,
    long_documents: LongDocuments | None = None,
    resume: Flag = False,
    overwrite: Flag = False,
    on_error: Literal["stop", "skip"] = "stop",
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    api_key: str | None = None,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
) -> int:
    """Rank documents in files by their relevance to a query.

    There are three kinds of input:

    `sie-server rerank "a query" docs.txt` ranks the lines of a file.

    `cat hits.jsonl | sie-server rerank` ranks the documents of each line. A line is
    `{"query": "…", "documents": ["…", {"id": "…", "text": "…"}, …]}`; all of it is kept, and `ranking` is added.

    `sie-server rerank --run bm25.trec --corpus corpus.jsonl --queries queries.jsonl` ranks the documents of a TREC run.

    Exit status: 0, all is ranked; 1, lines failed or were skipped; 2, a flag or the input is wrong; 3, the model or the
    server is not available; 130, interrupted. After each of these, --resume goes on with an incomplete --output.

    Parameters
    ----------
    query
        Query, for a file with one document per line. Without one, each line has its own.
    file
        File to read; -, or none: standard input.
    model
        Hub id, folder, NAME=FOLDER or ID:PROFILE. Default: sentence-transformers/all-MiniLM-L6-v2, or with --url the
        only model that the server has loaded.
    url
        URL of a running server, or DIALECT:URL for another API, such as cohere:https://api.cohere.com. Without one, the
        model runs in this process.
    top
        Number of documents in a ranking. Default: all.
    output
        File to write, in place of standard output.
    format_
        text: for people; tsv: rank, score and document, and in front of them the id or line of the query if there are
        several; jsonl; trec: a TREC run. Default: for lines with queries jsonl, for a run trec, and otherwise tsv; on a
        terminal text.
    input_
        text: one document per line; jsonl: JSON, a document with `text`, or a query with its documents. auto: jsonl if
        there is no query, or if the first line is a JSON object.
    run
        TREC run with the documents of each query.
    corpus
        Texts of the run's documents, in lines `{"_id": "…", "title": "…", "text": "…"}`, or of an id, a tab and a text.
    queries
        Texts of the run's queries, in the same form.
    depth
        Number of documents of the run that are ranked, for each query. Default: all.
    instruction
        Instruction for models that take one.
    long_documents
        Treatment of documents over the model's limit: cut, divided into windows, or refused. Default: the model's own.
    resume
        Go on with a file of --output that an earlier run did not complete. A file that is not there is begun, and one
        that an earlier run with --resume completed is left as it is.
    overwrite
        Replace a file of --output that is there.
    on_error
        stop at a line that can't be read or ranked, or skip it and count it.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one. In this process only.
    precision
        Precision of the matrix products; auto: the fastest here of float32 and bfloat16. In this process only.
    api_key
        API key of the server. Default: SIE_API_KEY, or the variable of the other API, such as COHERE_API_KEY.
    quiet
        Show no progress.
    """
    from sie_server.cli.rerank.job import Job, Wanted
    from sie_server.cli.streaming.model_flags import ModelFlags
    from sie_server.cli.streaming.run import run as run_streaming

    job = Job(
        ModelFlags(model, url, instruction, long_documents, device, precision, api_key),
        Wanted(query, file, input_, run, corpus, queries, depth, top, format_, output),
        resume=resume,
        overwrite=overwrite,
        on_error=on_error,
        quiet=quiet,
    )
    return run_streaming(job.main, job.resumable)
