"""OpenVINO in a well-tuned setup, in a process (and, if versions conflict, an environment) of its own.

Started by `engine.py` with a checkpoint, a precision and a file of texts; needs openvino, nncf (for int8), torch and
transformers. Keeps the model loaded. Each line on stdin runs it once; the answer is a line of JSON with the seconds,
the tokenizer included, and the scores.

Batches are sorted by length and have at most 2,048 tokens with their padding; as many run at a time as OpenVINO's
hint for throughput asks for. int8 is NNCF's post-training quantization for transformers, calibrated on the same texts.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import torch
import transformers

BUDGET = 2048
CALIBRATION = 32


class Logits(torch.nn.Module):
    """Returns logits only: tracing does not support models that return an object."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor | None = None
    ) -> torch.Tensor:
        types = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        logits: torch.Tensor = self.model(input_ids=input_ids, attention_mask=attention_mask, **types).logits
        return logits


def main() -> None:
    folder, precision, texts = sys.argv[1:]
    query, documents = json.loads(Path(texts).read_text())
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = converted(folder, tokenizer, query, documents)
    if precision == "int8":
        model = quantized(model, batches(tokenizer, query, documents))
    hint = "bf16" if precision == "bfloat16" else "f32"
    options = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "THROUGHPUT"}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    queue = openvino.AsyncInferQueue(compiled)
    scores = np.zeros(len(documents))

    def done(request: Any, rows: list[int]) -> None:
        scores[rows] = request.get_output_tensor(0).data[:, 0]

    queue.set_callback(done)
    print("ready", flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        for rows, inputs in batches(tokenizer, query, documents):
            queue.start_async(inputs, rows)
        queue.wait_all()
        seconds = time.perf_counter() - started
        print(json.dumps({"seconds": seconds, "scores": scores.tolist()}), flush=True)


def batches(tokenizer: Any, query: str, documents: list[str]) -> list[tuple[list[int], dict[str, Any]]]:
    """Yield rows and padded inputs, longest first."""
    encoded = tokenizer([query] * len(documents), documents, truncation=True)
    lengths = [len(ids) for ids in encoded["input_ids"]]
    order = sorted(range(len(documents)), key=lambda row: -lengths[row])
    groups: list[list[int]] = []
    for row in order:
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= BUDGET:
            groups[-1].append(row)
        else:
            groups.append([row])
    pads = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    result = []
    for rows in groups:
        longest = lengths[rows[0]]
        inputs = {key: np.full((len(rows), longest), pads[key], np.int64) for key in encoded}
        for key, array in inputs.items():
            for at, row in enumerate(rows):
                array[at, : lengths[row]] = encoded[key][row]
        result.append((rows, inputs))
    return result


def converted(folder: str, tokenizer: Any, query: str, documents: list[str]) -> Any:
    """The checkpoint in OpenVINO's form, with both dimensions of its inputs left open."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    example = tokenizer([query] * 2, documents[:2], return_tensors="pt", padding=True, truncation=True)
    with torch.no_grad():
        result = openvino.convert_model(Logits(model), example_input=dict(example))
    for node in result.inputs:
        node.get_node().set_partial_shape(openvino.PartialShape([-1, -1]))
    result.validate_nodes_and_infer_types()
    return result


def quantized(model: Any, samples: list[tuple[list[int], dict[str, Any]]]) -> Any:
    import nncf

    data = nncf.Dataset([inputs for _, inputs in samples[:CALIBRATION]])
    return nncf.quantize(model, data, model_type=nncf.ModelType.TRANSFORMER, subset_size=CALIBRATION)


if __name__ == "__main__":
    main()
