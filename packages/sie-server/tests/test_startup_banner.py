"""What the server says when it is ready, and which models it lets clients have loaded."""

import json
import shlex
from pathlib import Path

import httpx2
import pytest

from sie_server.catalog.catalog import Entry, offered, shipped, with_models
from sie_server.startup_banner import base_url, reach, welcome
from sie_testing.serving import EMBEDDED, Server, connect


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://localhost:8080"),
        ("::", "http://localhost:8080"),
        ("::1", "http://[::1]:8080"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:8080"),
    ],
)
def test_the_url_works_as_it_stands(host: str, url: str) -> None:
    assert base_url(host, 8080) == url


def test_who_reaches_it_is_said() -> None:
    for host in ("127.0.0.1", "::1"):
        assert "Only this machine" in reach(host, keys=False)
    for host in ("0.0.0.0", "::", "192.0.2.1", "fe80::1%eth0"):
        assert "open to everyone" in reach(host, keys=False)
    assert reach("0.0.0.0", keys=True) == ""


def request(said: str) -> tuple[str, dict[str, str], object]:
    """URL, headers and body of the curl command in a text."""
    start = said.index("curl ")
    words = shlex.split(said[start : said.index("'\n", said.index(" -d ")) + 1])
    headers = [words[i + 1] for i, word in enumerate(words) if word == "-H"]
    return words[1], dict(header.split(": ", 1) for header in headers), json.loads(words[words.index("-d") + 1])


def test_the_request_is_one_for_the_model() -> None:
    url, headers, body = request(
        welcome("http://h:1", Entry(id="a/b", outputs=("score",)), "127.0.0.1", keys=True, page=True)
    )
    assert url == "http://h:1/v1/score/a/b"
    assert headers["Authorization"] == "Bearer $SIE_API_KEY"
    assert body.keys() == {"query", "items"}  # type: ignore[attr-defined]
    url, headers, body = request(
        welcome("http://h:1", Entry(id="a/b", outputs=("sparse",)), "127.0.0.1", keys=False, page=True)
    )
    assert url == "http://h:1/v1/encode/a/b"
    assert "Authorization" not in headers
    assert body["params"] == {"output_types": ["sparse"]}  # type: ignore[index]
    assert "curl" not in welcome("http://h:1", None, "127.0.0.1", keys=False, page=True)


def test_the_page_is_named_where_there_is_one() -> None:
    for entry in (None, Entry(id="a/b", outputs=("score",))):
        for page in (True, False):
            assert ("in a browser" in welcome("http://h:1", entry, "127.0.0.1", keys=False, page=page)) == page


def test_a_server_of_one_model(models: Path) -> None:
    """The argument is served and loaded, the catalogue is not, and what the banner says to do works."""
    with Server(str(models / "bert-encoder"), "--catalogue=none") as server, connect(server.url) as api:
        assert [model["name"] for model in api.get("/v1/models").json()["models"]] == ["bert-encoder"]
        assert api.get("/v1/models/bert-encoder").json()["state"] == "loaded"
        url, headers, body = request(server.log)
        assert url == f"{server.url}/v1/encode/bert-encoder"
        assert httpx2.post(url, headers=headers, json=body, timeout=60).status_code == 200
        refused = api.post(f"/v1/score/{EMBEDDED}", json={"query": {"text": "q"}, "items": [{"text": "d"}]})
        assert (refused.status_code, refused.json()["detail"]["code"]) == (404, "MODEL_NOT_FOUND")


def test_the_catalogue_is_all_none_or_a_list() -> None:
    catalogue = shipped()
    assert offered(catalogue, "all", ()) == catalogue
    assert offered(catalogue, "none", ()) == {}
    assert list(offered(catalogue, "BAAI/bge-m3, cross-encoder/ms-marco-MiniLM-L-6-v2", ())) == [
        model_id for model_id in catalogue if model_id in ("BAAI/bge-m3", "cross-encoder/ms-marco-MiniLM-L-6-v2")
    ]
    # What the operator names keeps all that the catalogue knows of it.
    named = with_models(offered(catalogue, "none", [EMBEDDED, "x/y"]), [EMBEDDED, "x/y"])
    assert named == {EMBEDDED: catalogue[EMBEDDED], "x/y": Entry(id="x/y", repository="x/y")}
    assert list(offered(catalogue, "none", ["BAAI/bge-m3:sparse", "BAAI/bge-m3:none"])) == ["BAAI/bge-m3"]
    with pytest.raises(ValueError, match=r"--catalogue BAAI/bge-m4: not in the catalogue\. Did you mean 'BAAI/bge-m3'"):
        offered(catalogue, "BAAI/bge-m4", ())
