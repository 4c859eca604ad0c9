"""`sie-server encode`: embeds the texts in a file, in this process or by a server."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from sie_server.cli.flag_types import Count, Flag
from sie_server.cli.rerank.texts import Input
from sie_server.cli.streaming.input_file import InputFile
from sie_server.settings import ChosenPrecision, Device

Outputs = tuple[Literal["dense", "sparse", "multivector"], ...]


def encode(
    file: InputFile = None,
    /,
    *,
    model: Annotated[str | None, Parameter(alias="-m")] = None,
    url: str | None = None,
    output: Annotated[Path | None, Parameter(alias="-o")] = None,
    format_: Annotated[Literal["npy", "jsonl", "parquet"] | None, Parameter(name="--format")] = None,
    output_type: Annotated[Outputs, Parameter(negative=())] = (),
    query: Flag = False,
    dimensions: Count | None = None,
    dtype: Literal["float32", "float16"] = "float32",
    input_: Annotated[Input, Parameter(name="--input")] = "auto",
    instruction: str | None = None,
    resume: Flag = False,
    overwrite: Flag = False,
    on_error: Literal["stop", "skip"] = "stop",
    device: Device = "auto",
    precision: ChosenPrecision = "auto",
    api_key: str | None = None,
    quiet: Annotated[bool, Parameter(alias="-q", negative=())] = False,
) -> int:
    """Embed the texts in a file.

    `sie-server encode texts.txt --output vectors.npy` embeds the lines of a file. If the first line is a JSON
    object, all lines are, and the text of each is its field `text`.

    Exit status: 0, all is embedded; 1, lines failed or were skipped; 2, a flag or the input is wrong; 3, the
    model or the server is not available; 130, interrupted. After each of these, --resume goes on with an
    incomplete --output.

    Parameters
    ----------
    file
        File to read; -, or none: standard input.
    model
        Hub id, folder, NAME=FOLDER or ID:PROFILE. Default: sentence-transformers/all-MiniLM-L6-v2, or with --url the
        only model that the server has loaded.
    url
        URL of a running server of SIE. Without one, the model runs in this process.
    output
        File to write, in place of standard output.
    format_
        npy: an array of dense vectors, a row for each text; jsonl: the fields of each line, or the index of its text,
        and the vectors; parquet: columns id, text, and vectors. Default: by the name of the output; jsonl without one.
    output_type
        Kind of vectors. Repeatable. Default: dense, or those of the profile.
    query
        The texts are queries, and not documents.
    dimensions
        Number of dimensions of dense vectors, for a model that was trained to be cut. Default: all.
    dtype
        Type of the numbers.
    input_
        text: one text per line; jsonl: a JSON object with `text` in each. auto: jsonl if the first line is one.
    instruction
        Instruction for models that take one.
    resume
        Go on with a file of --output that an earlier run did not complete. A file that is not there is begun, and one
        that an earlier run with --resume completed is left as it is.
    overwrite
        Replace a file of --output that is there.
    on_error
        stop at a line that can't be read or embedded, or skip it and count it. An .npy file can have no gaps.
    device
        cpu, cuda, cuda:N, or auto: CUDA where there is one. In this process only.
    precision
        Precision of the matrix products; auto: the fastest here of float32 and bfloat16. In this process only.
    api_key
        API key of the server. Default: SIE_API_KEY.
    quiet
        Show no progress.
    """
    from sie_server.cli.encode.encoder import EncodeFlags
    from sie_server.cli.encode.job import Job, Wanted
    from sie_server.cli.streaming.model_flags import ModelFlags
    from sie_server.cli.streaming.run import run

    job = Job(
        ModelFlags(model, url, instruction, None, device, precision, api_key),
        EncodeFlags(tuple(dict.fromkeys(output_type)), query, dimensions, instruction),
        Wanted(file, input_, output, format_, dtype),
        resume=resume,
        overwrite=overwrite,
        on_error=on_error,
        quiet=quiet,
    )
    return run(job.main, job.resumable)
