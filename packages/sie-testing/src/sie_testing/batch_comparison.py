"""A program that compares the bits of a few pairs and texts of a few models, alone and together.

    python -m sie_testing.batch_comparison FOLDER

FOLDER holds `texts.json`, a list of texts, and a checkpoint in each of its folders. The exit status is 1 if results
differ. Nothing of transformers is imported, which would take longer than the comparison.
"""

import json
import sys
from pathlib import Path
from typing import Any

from sie_server.cli.quick_imports import quick_imports

with quick_imports():
    import torch

    from sie_server.catalog.catalog import Entry, shipped
    from sie_server.checkpoints.load import load
    from sie_server.models.loaded_model import LoadedModel
    from sie_server.nn.heads import Head
    from sie_server.nn.kernels.library import linear_isa_level
    from sie_server.nn.packed import Packed
    from sie_server.nn.similarity import MaxSim
    from sie_server.options import Comparison
    from sie_server.tokenization.sequence import Sequence

EMBEDDED = "sentence-transformers/all-MiniLM-L6-v2"
CPU = torch.device("cpu")


def results(model: LoadedModel, head: Head, sequences: list[Sequence]) -> list[Any]:
    hidden, rows = model.encoder(Packed.of(sequences, CPU))
    return head(hidden, rows, sequences)


def differing(model: LoadedModel, texts: list[str]) -> tuple[int, int]:
    """Numbers of results that were compared, and of those that differ."""
    head: Head | None = model.encoder.head
    if head is not None:
        sequences = model.tokenizer.encode_pairs("what is python", texts)
    else:
        query, *sequences = model.tokenizer.encode_documents(["what is it made of", *texts])
        compared = model.similarity(query, Comparison())
        assert isinstance(compared, MaxSim)
        hidden, _ = model.encoder(Packed.of([query], CPU))
        compared.observe_lead(hidden)
        head = compared
    together = results(model, head, sequences)
    alone = [results(model, head, [sequence])[0] for sequence in sequences]
    pairs = [results(model, head, sequences[i : i + 2])[0] for i in range(len(sequences))]
    return 2 * len(sequences), sum(a != b for one in (alone, pairs) for a, b in zip(one, together, strict=True))


def main() -> None:
    torch.set_num_threads(1)
    precisions = ["float32"]
    if torch.ops.mkldnn._is_mkldnn_bf16_supported():
        precisions.append("bfloat16")
    if linear_isa_level() > 0:
        precisions.append("int8")
    folder = Path(sys.argv[1])
    texts = json.loads((folder / "texts.json").read_text())
    entries = [shipped()[EMBEDDED], *(Entry(path.name, folder=path) for path in folder.iterdir() if path.is_dir())]
    total = wrong = 0
    with torch.inference_mode():
        for precision in precisions:
            for entry in entries:
                # The last text is the longest, and the embedded model the slowest, with more tokens per word.
                some = texts[:-1] if entry.id == EMBEDDED else texts
                compared, differ = differing(load(entry, CPU, precision), some)  # type: ignore[arg-type]
                print(f"{entry.id} in {precision}: {compared} compared, {differ} differ")
                total, wrong = total + compared, wrong + differ
    print(f"{total} compared, {wrong} differ")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
