"""The few requests of Elasticsearch and OpenSearch that the documentation's programs make, over HTTP."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np


class _Handler(BaseHTTPRequestHandler):
    """Creates an index, stores documents, and finds those with the largest inner product."""

    protocol_version = "HTTP/1.1"
    stored: dict[str, dict[str, Any]]

    def do_POST(self) -> None:
        path, body = self.path.partition("?")[0], self._body()
        if path.endswith("/_bulk"):
            self._answer(self._store([json.loads(line) for line in body.splitlines() if line]))
        elif path.endswith("/_search"):
            self._answer(self._search(json.loads(body)))
        else:
            self._answer({"acknowledged": True, "index": path.strip("/")})

    # Elasticsearch's client puts an index and its documents, and OpenSearch's may search by GET.
    do_PUT = do_GET = do_POST  # noqa: N815

    def _store(self, lines: list[dict[str, Any]]) -> dict[str, Any]:
        identifiers = [line["index"]["_id"] for line in lines[::2]]
        self.stored.update(zip(identifiers, lines[1::2], strict=True))
        items = [
            {"index": {"_index": "passages", "_id": each, "status": 201, "result": "created"}} for each in identifiers
        ]
        return {"took": 1, "errors": False, "items": items}

    def _search(self, body: dict[str, Any]) -> dict[str, Any]:
        if "knn" in body:
            field, vector, count = body["knn"]["field"], body["knn"]["query_vector"], body["knn"]["k"]
        else:
            [(field, nearest)] = body["query"]["knn"].items()
            vector, count = nearest["vector"], nearest["k"]
        scores = {each: float(np.dot(source[field], vector)) for each, source in self.stored.items()}
        best = sorted(scores, key=lambda each: -scores[each])[: min(count, body["size"])]
        hits = [
            {"_index": "passages", "_id": each, "_score": scores[each], "_source": {"text": self.stored[each]["text"]}}
            for each in best
        ]
        return {"took": 1, "timed_out": False, "hits": {"hits": hits}}

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, body: dict[str, Any]) -> None:
        encoded = json.dumps(body).encode()
        self.send_response(200)
        # Elasticsearch's client takes an answer of no other product, and in the type that it asked for.
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", self.headers.get("Accept", "application/json").split(",")[0])
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the output of the tests free of requests."""


@contextmanager
def search_engine() -> Iterator[str]:
    """The URL of an empty stand-in."""
    handler = type("Handler", (_Handler,), {"stored": {}})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()
