"""Parses responses into the types of `sie_sdk.types`. Raises RequestError for a response of any other form."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import msgspec
import numpy as np

from sie_sdk._core import codec
from sie_sdk._core.chunks import Chunk
from sie_sdk._core.reply import Reply
from sie_sdk.errors import IncompleteBatchError, RequestError
from sie_sdk.types import EncodeResult, ExtractResult, Item, ModelInfo, ScoreResult, StatusMessage

_DIMENSIONS = {"dense": 1, "multivector": 2}


def score_result(reply: Reply) -> ScoreResult:
    """Parses a ranking. It keeps the order and the ranks that the server sent."""
    body = _body(reply, "score")
    entries = body.get("scores")
    if not isinstance(body.get("model"), str) or not isinstance(entries, list):
        raise codec.malformed("score", "expected the fields 'model' and 'scores'")
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or not (
            isinstance(entry.get("item_id"), str)
            and isinstance(entry.get("score"), float | int)
            and isinstance(entry.get("rank"), int)
        ):
            raise codec.malformed("score", f"scores[{i}] must have an item_id, a score and a rank")
    if body.get("query_id", ...) is None:
        del body["query_id"]
    if info := reply.request_info():
        body["request"] = info
    return cast(ScoreResult, body)


def merged_scores(rankings: Sequence[ScoreResult], top_k: Any) -> ScoreResult:
    """Merges the rankings of all chunks of an input into one; returns a single ranking as it is.

    Documents with equal scores stay in their order, as they do in each chunk.
    """
    if len(rankings) == 1:
        return rankings[0]
    entries = sorted((entry for ranking in rankings for entry in ranking["scores"]), key=lambda entry: -entry["score"])
    if isinstance(top_k, int):
        del entries[top_k:]
    ranked = [{**entry, "rank": rank} for rank, entry in enumerate(entries)]
    result: dict[str, Any] = {**rankings[0], "scores": ranked}
    for name in ("usage", "request"):
        if total := _added([ranking.get(name) for ranking in rankings if name in ranking]):
            result[name] = total
    return cast(ScoreResult, result)


def encode_results(reply: Reply, chunk: Chunk) -> list[EncodeResult]:
    """Parses one result per item, in the order of the items."""
    body = _body(reply, "encode")
    results = [_encode_result(entry, body, reply) for entry in _entries(body, "encode")]
    _check_complete(results, chunk.items, reply)
    return results


def extract_results(reply: Reply, chunk: Chunk) -> list[ExtractResult]:
    """Parses one result per item, in the order of the items."""
    results = cast(list[ExtractResult], _entries(_body(reply, "extract"), "extract"))
    _check_complete(results, chunk.items, reply)
    return results


def model_infos(reply: Reply) -> list[ModelInfo]:
    models = json_map(reply).get("models")
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise RequestError("Malformed models JSON response (expected a list under 'models')")
    return cast(list[ModelInfo], models)


def model_info(reply: Reply) -> ModelInfo:
    return cast(ModelInfo, json_map(reply))


def status_message(reply: Reply) -> StatusMessage:
    return cast(StatusMessage, json_map(reply, "status"))


def _body(reply: Reply, what: str) -> dict[str, Any]:
    try:
        return codec.decode(reply.content, what)
    except RequestError as error:
        # If the response does not come from an SIE server, its text says more than the decoder's error.
        content_type = reply.headers.get("content-type", "")
        if not reply.excerpt or not content_type or "msgpack" in content_type:
            raise
        raise codec.malformed(what, f"it is {content_type}: {reply.excerpt}") from error


def _entries(body: dict[str, Any], what: str) -> list[dict[str, Any]]:
    entries = body.get("items")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise codec.malformed(what, "expected a list of maps under 'items'")
    return entries


def _encode_result(entry: dict[str, Any], body: dict[str, Any], reply: Reply) -> EncodeResult:
    result: dict[str, Any] = {}
    if entry.get("id") is not None:
        result["id"] = entry["id"]
    for kind, dimensions in _DIMENSIONS.items():
        if entry.get(kind) is not None:
            result[kind] = _array(entry[kind], "values", dimensions, kind)
    if entry.get("sparse") is not None:
        indices, values = (_array(entry["sparse"], field, 1, "sparse") for field in ("indices", "values"))
        if len(indices) != len(values):
            raise codec.malformed("encode", f"sparse has {len(indices)} indices but {len(values)} values")
        result["sparse"] = {"indices": indices, "values": values}
    result |= {field: body[field] for field in ("model", "timing") if body.get(field) is not None}
    if info := reply.request_info():
        result["request"] = info
    return cast(EncodeResult, result)


def _array(embedding: Any, field: str, dimensions: int, kind: str) -> Any:
    array = embedding.get(field) if isinstance(embedding, dict) else None
    if not isinstance(array, np.ndarray):
        got = type(array).__name__
        raise codec.malformed("encode", f"Expected numpy array from msgpack-numpy for {kind}.{field}, got {got}")
    if array.ndim != dimensions:
        raise codec.malformed("encode", f"{kind}.{field} must have {dimensions} dimensions, got {array.ndim}")
    return array


def _added(parts: Sequence[Any]) -> Any:
    """Adds up numbers, also those in maps; returns the first of anything else."""
    if parts and all(isinstance(part, dict) for part in parts):
        return {key: _added([part[key] for part in parts if key in part]) for key in dict.fromkeys(chain(*parts))}
    if parts and all(isinstance(part, int | float) for part in parts):
        return sum(parts)
    return parts[0] if parts else None


def _check_complete(results: Sequence[Any], items: Sequence[Item], reply: Reply) -> None:
    if len(results) == len(items):
        return
    answered = {name for result in results if isinstance(name := result.get("id"), str)}
    asked = [item.get("id") for item in items]
    raise IncompleteBatchError(
        f"the response has {len(results)} results for {len(items)} items",
        expected=len(items),
        received=len(results),
        missing_ids=[name for name in asked if name is not None and name not in answered],
        results=results,
        status_code=reply.status,
        request=reply.request_info() or None,
    )


def json_map(reply: Reply, what: str = "models") -> dict[str, Any]:
    """Parses a JSON object. Raises RequestError, naming the response by `what`, for anything else."""
    try:
        body = msgspec.json.decode(reply.content)
    except (ValueError, RecursionError, MemoryError) as error:
        raise RequestError(f"Malformed {what} JSON response ({error})") from error
    if not isinstance(body, dict):
        raise RequestError(f"Malformed {what} JSON response (expected an object)")
    return body
