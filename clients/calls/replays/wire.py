"""How the requests of programs that can't be installed here are replayed, and their answers read."""

from typing import Any

import httpx2
from harness import Target, WrongError, same


def post(
    t: Target, path: str, body: dict[str, Any], headers: dict[str, str] | None = None, status: int = 200, key: str = ""
) -> Any:
    """The JSON that answers a request with exactly this body. Without other headers it has a bearer token."""
    sent = {"Authorization": f"Bearer {key or t.key}"} if headers is None else headers
    answer = httpx2.post(t.url + path, json=body, headers=sent, timeout=30, trust_env=False)
    if answer.status_code != status:
        raise WrongError(f"the status is {answer.status_code}; it must be {status}: {answer.text[:300]}")
    same(answer.headers["content-type"], "application/json", "the type")
    return answer.json()


def exactly(items: list[dict[str, Any]], keys: set[str]) -> None:
    """Check that the items have these keys and no others, as parsers do that throw on unknown fields."""
    for item in items:
        same(set(item), keys, "the keys of an item")


def pairs(items: list[dict[str, Any]], score: str = "relevance_score") -> list[tuple[int, float]]:
    """Index and score of each item, of the types that a typed reader wants."""
    for item in items:
        same((type(item["index"]), type(item[score])), (int, float), "the types of index and score")
    return [(item["index"], item[score]) for item in items]


def texts(t: Target, items: list[dict[str, Any]], found: list[Any]) -> None:
    """Check the documents that come back."""
    same(found, [t.documents[item["index"]] for item in items], "the documents")
