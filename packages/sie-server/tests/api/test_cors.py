"""Which pages in a browser may call the server, and what they may read of its answers."""

from collections.abc import Iterator

import httpx2
import pytest

from sie_testing.serving import EMBEDDED, connect, in_process

PAGE = "https://search.example"
ASKS = {"Origin": PAGE, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-sie-sdk-version"}


@pytest.fixture(scope="module")
def opened() -> Iterator[httpx2.Client]:
    with in_process(cors_origins=(PAGE,)) as running, connect(running.url) as client:
        yield client


def test_a_page_may_send_what_the_sdk_sends_and_read_every_header(opened: httpx2.Client) -> None:
    leave = opened.options(f"/v1/score/{EMBEDDED}", headers=ASKS)
    assert leave.status_code == 200
    assert leave.headers["access-control-allow-origin"] == PAGE
    assert "POST" in leave.headers["access-control-allow-methods"]
    assert leave.headers["access-control-allow-headers"] == "x-sie-sdk-version"
    answer = opened.get("/v1/models", headers={"Origin": PAGE})
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert answer.headers["access-control-expose-headers"] == "*"
    assert "x-sie-server-version" in answer.headers


@pytest.mark.parametrize(("path", "status"), [("/v1/models/x", 404), ("/nowhere", 404)])
def test_a_page_may_read_errors(opened: httpx2.Client, path: str, status: int) -> None:
    answer = opened.get(path, headers={"Origin": PAGE})
    assert answer.status_code == status
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_other_pages_may_not(opened: httpx2.Client) -> None:
    other = {**ASKS, "Origin": "https://other.example"}
    assert opened.options(f"/v1/score/{EMBEDDED}", headers=other).status_code == 400
    assert "access-control-allow-origin" not in opened.get("/v1/models", headers=other).headers


def test_every_page_may_where_the_setting_says_so() -> None:
    with in_process(cors_origins=("*",)) as running, connect(running.url) as client:
        assert client.get("/v1/models", headers={"Origin": PAGE}).headers["access-control-allow-origin"] == "*"


def test_no_page_may_by_default() -> None:
    with in_process() as running, connect(running.url) as client:
        assert client.options(f"/v1/score/{EMBEDDED}", headers=ASKS).status_code == 405
        answer = client.get("/v1/models", headers={"Origin": PAGE})
        assert not [name for name in answer.headers if name.startswith("access-control-")]


BODY = b'{"query": {"text": "q"}, "items": [{"text": "d"}]}'


@pytest.mark.parametrize(
    ("origin", "media", "status"),
    [
        # What a browser sends for any page without asking the server first.
        ("https://other.example", "text/plain", 415),
        ("https://other.example", "text/plain; a=application/json", 415),
        ("null", None, 415),
        ("https://other.example", "application/x-www-form-urlencoded", 415),
        ("https://other.example", "application/json; charset=utf-8", 404),
        (PAGE, "text/plain", 404),
        (None, "application/x-www-form-urlencoded", 404),
        (None, None, 404),
    ],
)
def test_a_page_makes_the_server_load_no_model(
    opened: httpx2.Client, origin: str | None, media: str | None, status: int
) -> None:
    headers = {name: value for name, value in (("Origin", origin), ("Content-Type", media)) if value is not None}
    assert opened.post("/v1/score/none", content=BODY, headers=headers).status_code == status
