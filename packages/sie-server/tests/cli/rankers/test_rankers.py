"""Rankers: the same scores in this process, from a server, and in the wire format of every other API."""

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from sie_server.cli.rankers.dialects import DIALECTS
from sie_server.cli.rankers.open import open_ranker
from sie_server.cli.rankers.other_server import joined
from sie_server.cli.rankers.ranker import NO_DOCUMENTS, Ranked, RankerError, UnavailableError
from sie_testing.serving import EMBEDDED, InProcess, in_process

QUERY = "what is python"
DOCUMENTS = [
    "snakes are reptiles",
    "python is a programming language",
    "who made it",
    "",
    "a language is a language " * 300,
    "python is a programming language",
]
# Above the number of documents in a request of every API.
MANY = [f"{DOCUMENTS[index % 3]} {index}" for index in range(40)]
# Where our server speaks an API: below a prefix, or at the root.
PREFIXES = {"cohere-v1": "cohere", "vllm-score": "vllm", "llamacpp": "", "siliconflow": ""}


@pytest.fixture(scope="module")
def serving(models: Path) -> Iterator[InProcess]:
    with in_process(
        model=(str(models / "bert"), str(models / "bert-encoder")),
        preload=("bert", EMBEDDED),
        precision="float32",
        load_wait=60,
    ) as running:
        yield running


def rank(model: str | None, query: str = QUERY, documents: Sequence[str] = DOCUMENTS, **how: Any) -> Ranked:
    async def ranked() -> Ranked:
        async with open_ranker(model, **how) as ranker:
            return await ranker.rank(query, documents)

    return asyncio.run(ranked())


def named(model: str | None, **how: Any) -> str:
    async def opened() -> str:
        async with open_ranker(model, **how) as ranker:
            return ranker.name

    return asyncio.run(opened())


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


@pytest.mark.parametrize("model", ["bert", EMBEDDED])
def test_a_server_and_this_process_give_the_same_scores_to_the_bit(
    models: Path, serving: InProcess, model: str
) -> None:
    there = rank(model, url=serving.url)
    here = rank(str(models / "bert") if model == "bert" else model, precision="float32")
    assert here.scores == there.scores
    assert (here.tokens, here.truncated) == (there.tokens, there.truncated)
    assert here.truncated == 1
    assert here.tokens is not None
    assert here.tokens > 256
    assert here.seconds > 0
    assert here.scores[1] == here.scores[5]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_api_gives_the_same_scores(serving: InProcess, dialect: str) -> None:
    prefix = PREFIXES.get(dialect, dialect)
    url = f"{dialect}:{serving.url}/{prefix}"
    documents = [text or "-" for text in (*DOCUMENTS, *MANY)]
    ours = rank("bert", documents=documents, url=serving.url)
    # Most APIs promise a score between 0 and 1, which a probability is; NIM's is the logit.
    theirs = rank("bert", documents=documents, url=url)
    scores = [*map(sigmoid, theirs.scores)] if dialect == "nim" else theirs.scores
    assert scores == (pytest.approx(ours.scores, abs=1e-6) if dialect == "nim" else ours.scores)
    assert theirs.tokens is None or theirs.tokens > 256
    assert (theirs.tokens is None) == (dialect in ("tei", "sglang", "pinecone")), "these do not tell"
    assert theirs.truncated is None


def test_a_route_is_found_below_any_part_of_its_path() -> None:
    assert joined("", "/v1/rerank") == joined("/", "/v1/rerank") == joined("/v1", "/v1/rerank") == "/v1/rerank"
    assert joined("/v1/rerank", "/v1/rerank") == "/v1/rerank"
    assert joined("/a/v1/", "/v1/rerank") == "/a/v1/rerank"
    assert joined("/v1/inference/", "/v1/inference/a/b") == "/v1/inference/a/b"


def test_a_ranker_has_a_name_for_tables(models: Path, serving: InProcess) -> None:
    assert named(f"mine={models / 'bert'}") == "mine"
    assert named("bert", url=serving.url) == f"bert at {serving.url}"
    assert named("bert", url=f"cohere:{serving.url}/cohere") == f"cohere:bert at {serving.url}/cohere"
    assert named(None, url="tei:http://user:secret@127.0.0.1:1/x") == "tei at http://127.0.0.1:1/x"


def test_no_documents_have_no_scores(serving: InProcess) -> None:
    assert rank(EMBEDDED, documents=[]) == NO_DOCUMENTS
    assert rank("bert", documents=[], url=serving.url) == NO_DOCUMENTS
    assert rank("bert", documents=[], url=f"jina:{serving.url}/jina") == NO_DOCUMENTS


def test_many_requests_at_once_have_the_scores_of_each(models: Path) -> None:
    async def ranked() -> tuple[list[Ranked], list[Ranked]]:
        async with open_ranker(str(models / "bert"), precision="float32") as ranker:
            alone = [await ranker.rank(QUERY, [text]) for text in MANY]
            return alone, await asyncio.gather(*(ranker.rank(QUERY, [text]) for text in MANY))

    alone, together = asyncio.run(ranked())
    assert [each.scores for each in alone] == [each.scores for each in together]


def test_a_profile_and_the_treatment_of_long_documents_count(models: Path, serving: InProcess) -> None:
    folder = str(models / "bert")
    cut, windows = rank(folder), rank(folder, long_documents="chunk_max")
    assert (cut.truncated, windows.truncated) == (1, 0)
    assert cut.scores[4] != windows.scores[4]
    there = rank("bert", url=serving.url, long_documents="chunk_max")
    assert there.scores == rank(folder, long_documents="chunk_max", precision="float32").scores
    with pytest.raises(RankerError, match="tokens"):
        rank(folder, long_documents="error")
    with pytest.raises(ValueError, match="profile 'nope' not found"):
        rank(f"{EMBEDDED}:nope")


@pytest.mark.parametrize(
    ("model", "how", "kind", "words"),
    [
        ("./nowhere", {}, ValueError, "no such folder"),
        (EMBEDDED, {"device": "tpu"}, ValueError, "tpu"),
        ("{models}/bert-encoder-not", {}, ValueError, "no such folder"),
        ("BAAI/bge-reranker-v2-m4", {}, UnavailableError, "Did you mean 'BAAI/bge-reranker-v2-m3'"),
        ("x", {"url": "ftp://x"}, ValueError, "neither http"),
        ("x", {"url": "acme:https://x"}, ValueError, "one of cohere, "),
        ("x", {"url": "cohere:x"}, ValueError, "'x' is not the URL of a server"),
        (None, {"url": "cohere:http://127.0.0.1:1"}, ValueError, "needs a model"),
        ("x", {"url": "jina:http://127.0.0.1:1", "instruction": "y"}, ValueError, "takes no instruction"),
        ("x", {"url": "jina:http://127.0.0.1:1", "long_documents": "error"}, ValueError, "long documents"),
        ("x", {"url": "http://127.0.0.1:1", "precision": "int8"}, ValueError, "precision"),
        ("x", {"url": "{url}"}, UnavailableError, "Model 'x' not found"),
        (None, {"url": "{url}"}, ValueError, "several models loaded: "),
        ("x", {"url": "vllm:{url}/vllm"}, UnavailableError, "answered 404: .*'x'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_sentence(
    models: Path,
    serving: InProcess,
    monkeypatch: pytest.MonkeyPatch,
    model: str | None,
    how: dict[str, str],
    kind: type[Exception],
    words: str,
) -> None:
    monkeypatch.setattr("sie_server.checkpoints.hub.is_offline_mode", lambda: True)
    given: dict[str, Any] = {name: value.format(url=serving.url) for name, value in how.items()}
    with pytest.raises(kind, match=words):
        rank(None if model is None else model.format(models=models), **given)


def test_a_server_that_is_not_there_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.cli.rankers.other_server._UNREACHED_S", 0.1)
    with pytest.raises(UnavailableError, match=r"tei at http://127.0.0.1:1: .*onnect"):
        rank(None, url="tei:http://127.0.0.1:1")
    with pytest.raises(UnavailableError, match=r"^no server at http://127.0.0.1:1$"):
        rank(None, url="http://127.0.0.1:1")


Answers = Callable[[BaseHTTPRequestHandler, dict[str, Any]], tuple[int, dict[str, str], bytes]]


@contextmanager
def crafted(answer: Answers) -> Iterator[str]:
    """A server that answers as a test wants."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, headers, content = answer(self, body)
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def results(*scores: float) -> bytes:
    return json.dumps({"results": [{"index": i, "relevance_score": score} for i, score in enumerate(scores)]}).encode()


def test_a_busy_server_is_asked_again_after_the_time_it_names() -> None:
    seen: list[dict[str, Any]] = []
    busy = [(429, {"Retry-After": "0"}, b"{}"), (503, {"Retry-After": "0"}, b"{}")]

    def answer(_: BaseHTTPRequestHandler, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        seen.append(body)
        return busy[len(seen) - 1] if len(seen) <= len(busy) else (200, {}, results(0.5, 0.25))

    with crafted(answer) as url:
        assert rank("m", documents=["a", "b"], url=f"cohere:{url}").scores == [0.5, 0.25]
    assert seen == [{"model": "m", "query": QUERY, "documents": ["a", "b"]}] * 3


def test_a_server_that_stays_busy_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sie_server.cli.rankers.other_server._BUSY_S", 0.3)
    with (
        crafted(lambda *_: (429, {"Retry-After": "0.1"}, b'{"message": "slow down"}')) as url,
        pytest.raises(UnavailableError, match="answered 429: slow down"),
    ):
        rank("m", url=f"cohere:{url}")


def test_the_key_comes_from_the_variable_of_the_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = []

    def answer(handler: BaseHTTPRequestHandler, _: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        keys.append((handler.headers["Authorization"], handler.headers["Api-Key"]))
        return 200, {}, json.dumps({"data": [{"index": 0, "relevance_score": 1, "score": 1}]}).encode()

    monkeypatch.setenv("VOYAGE_API_KEY", "of-voyage")
    monkeypatch.setenv("PINECONE_API_KEY", "of-pinecone")
    with crafted(answer) as url:
        rank("m", documents=["a"], url=f"voyage:{url}")
        rank("m", documents=["a"], url=f"pinecone:{url}")
        rank("m", documents=["a"], url=f"voyage:{url}", api_key="given")
    assert keys == [("Bearer of-voyage", None), (None, "of-pinecone"), ("Bearer given", None)]
    with pytest.raises(ValueError, match="printable ASCII"):
        rank("m", url="voyage:http://127.0.0.1:1", api_key="ä")


def test_a_refused_key_is_named() -> None:
    with (
        crafted(lambda *_: (401, {}, b'{"detail": "no such key"}')) as url,
        pytest.raises(UnavailableError, match=r"401: no such key. The key comes from JINA_API_KEY, or from --api-key"),
    ):
        rank("m", url=f"jina:{url}")
    with (
        in_process(api_keys=("right",)) as running,
        pytest.raises(UnavailableError, match=r"requires a key \(401\): set SIE_API_KEY, or pass --api-key"),
    ):
        rank(EMBEDDED, url=running.url, api_key="wrong")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>", "something other than JSON"),
        (b"[]", "without the field 'results'"),
        (b'{"results": [{"index": 0}]}', "lacks 'index' or 'relevance_score'"),
        (results(0.5), "gave 1 scores for 2 documents"),
        (results(0.5, 0.5, 0.5), "gave 3 scores for 2 documents"),
        (b'{"results": [{"index": 1, "relevance_score": 1}, {"index": 1, "relevance_score": 1}]}', "1 scores for 2"),
        (b'{"results": [{"index": 0, "relevance_score": 1}, {"index": 1, "relevance_score": 1e999}]}', "JSON|finite"),
    ],
)
def test_an_answer_without_a_score_for_each_document_is_refused(body: bytes, words: str) -> None:
    with crafted(lambda *_: (200, {}, body)) as url, pytest.raises(RankerError, match=words) as refused:
        rank("m", documents=["a", "b"], url=f"cohere:{url}")
    assert not isinstance(refused.value, UnavailableError), "other requests may succeed"
