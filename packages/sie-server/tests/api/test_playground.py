"""`GET /`: browsers get the playground, other clients what they always got; and how its files are served."""

import re
from collections.abc import Iterator

import httpx2
import pytest

from sie_server.api import playground
from sie_testing.serving import EMBEDDED, connect, error, in_process

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
SCORE = {"query": {"text": "it"}, "items": [{"text": "it"}]}
NAMES = sorted(path.name for path in playground._FOLDER.iterdir() if path.suffix in playground._TYPES)


@pytest.fixture(scope="module")
def keyed() -> Iterator[httpx2.Client]:
    with in_process(api_keys=("key-of-the-page",)) as running, connect(running.url) as client:
        yield client


def test_browsers_get_the_page(api: httpx2.Client) -> None:
    answer = api.get("/", headers=BROWSER)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["vary"] == "Accept"
    assert '<a class="quiet" href="docs">' in answer.text


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/msgpack", ""])
def test_other_clients_are_led_to_the_documentation(api: httpx2.Client, accept: str) -> None:
    answer = api.get("/", headers={"Accept": accept})
    assert (answer.status_code, answer.headers["location"], answer.headers["vary"]) == (307, "/docs", "Accept")
    assert api.get(answer.headers["location"]).status_code == 200


def test_a_post_to_the_root_is_still_a_request_of_tei(api: httpx2.Client) -> None:
    answer = api.post("/", headers=BROWSER, json={"query": "it", "texts": ["it"], "model": EMBEDDED})
    assert answer.headers["content-type"] == "application/json"
    assert "playground" not in answer.text


def test_all_that_the_page_refers_to_is_there_and_relative(api: httpx2.Client) -> None:
    page = api.get("/", headers=BROWSER).text
    found = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {"docs", "playground/main.js", "playground/base.css", "playground/icon.svg"} <= set(found)
    for name in found:
        assert not name.startswith(("/", "http")), name
        assert api.get(f"/{name}").status_code == 200, name
    for name in NAMES:
        if name.endswith(".js"):
            for imported in re.findall(
                r'^(?:import|export) .*from "\./([^"]+)"', api.get(f"/playground/{name}").text, re.M
            ):
                assert imported in NAMES


def test_the_page_has_no_code_or_style_in_it(api: httpx2.Client) -> None:
    page = api.get("/", headers=BROWSER).text
    assert not re.search(r"<script[^>]*>[^<]", page)
    assert not re.search(r"<style|\sstyle=|\son[a-z]+=|javascript:", page)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_has_its_type_and_the_headers_of_the_page(api: httpx2.Client, name: str) -> None:
    answer = api.get(f"/playground/{name}")
    types = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith(types[name.rpartition(".")[2]])
    assert answer.content == (playground._FOLDER / name).read_bytes()
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/", "/playground/main.js"])
def test_a_file_that_is_known_is_not_sent_again(api: httpx2.Client, path: str) -> None:
    tag = api.get(path, headers=BROWSER).headers["etag"]
    assert re.fullmatch('"[0-9a-f]{32}"', tag)
    for known in (tag, f'"x", W/{tag}', "*"):
        answer = api.get(path, headers={**BROWSER, "If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in answer.headers
    assert api.get(path, headers={**BROWSER, "If-None-Match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/playground/main.js"])
def test_head_has_the_headers_alone(api: httpx2.Client, path: str) -> None:
    asked, got = api.head(path, headers=BROWSER), api.get(path, headers=BROWSER)
    assert (asked.status_code, asked.content) == (200, b"")
    for name in ("content-type", "content-length", "etag", "content-security-policy"):
        assert asked.headers[name] == got.headers[name]


@pytest.mark.parametrize(
    "path",
    [
        *("/playground", "/playground/", "/playground/nothing.js", "/playground/sdk.d.ts", "/playground/MAIN.JS"),
        *(
            "/playground/../wire.py",
            "/playground/..%2fwire.py",
            "/playground/%2e%2e/wire.py",
            "/playground/..\\wire.py",
        ),
        *("/playground//etc/passwd", "/playground/main.js%00", "/playground/main.js/"),
    ],
)
def test_nothing_else_is_served(keyed: httpx2.Client, path: str) -> None:
    answer = keyed.get(path, headers={"Authorization": "Bearer key-of-the-page"})
    assert error(answer)[:2] == (404, "NOT_FOUND")


def test_a_file_cannot_be_posted_to(api: httpx2.Client) -> None:
    assert error(api.post("/playground/main.js"))[:2] == (405, "METHOD_NOT_ALLOWED")


def test_the_page_needs_no_key_and_its_calls_do(keyed: httpx2.Client) -> None:
    assert keyed.get("/", headers=BROWSER).status_code == 200
    assert keyed.head("/", headers=BROWSER).status_code == 200
    for name in NAMES:
        assert keyed.get(f"/playground/{name}").status_code == 200
    for method, path in [
        ("GET", "/"),
        ("POST", "/"),
        ("GET", "/docs"),
        ("GET", "/v1/models"),
        ("POST", f"/v1/score/{EMBEDDED}"),
        ("POST", "/playground/main.js"),
        ("GET", "/playground"),
    ]:
        headers = {} if (method, path) == ("GET", "/") else BROWSER
        assert keyed.request(method, path, headers=headers, json=SCORE if method == "POST" else None).status_code == 401


def test_it_can_be_switched_off() -> None:
    with in_process(playground=False) as running, connect(running.url) as client:
        answer = client.get("/", headers=BROWSER)
        assert (answer.status_code, answer.headers["location"]) == (307, "/docs")
        assert error(client.get("/playground/main.js"))[0] == 404
    with in_process(playground=False, api_keys=("key-of-the-page",)) as running, connect(running.url) as client:
        for path in ("/", "/playground/main.js"):
            assert client.get(path, headers=BROWSER).status_code == 401
