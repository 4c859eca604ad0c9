"""The page of the interface names the address that it was asked at, and nothing that a shell or a browser would run."""

import re

import httpx2
import pytest

from sie_testing.serving import EMBEDDED


def check_commands(api: httpx2.Client, headers: dict[str, str], base: str) -> None:
    """The page's commands go to the routes of the document, at this base URL."""
    answer = api.get("/docs", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    paths = {path.replace("{model}", EMBEDDED) for path in api.get("/openapi.json").json()["paths"]}
    commands = re.findall(r"curl (\S+)", answer.text)
    assert len(commands) > 50
    for url in commands:
        assert url.startswith(base)
        assert url.removeprefix(base) in paths


@pytest.mark.parametrize(
    ("headers", "url"),
    [
        ({"Host": "sie.example"}, "http://sie.example"),
        ({"Host": "[2001:db8::1]:8099"}, "http://[2001:db8::1]:8099"),
        ({"Host": "sie.example", "X-Forwarded-Proto": "https"}, "https://sie.example"),
        ({"Host": "10.0.0.7:8080", "X-Forwarded-Host": "sie.example, inner"}, "http://sie.example"),
        (
            {"Host": "sie.example", "X-Forwarded-Proto": "https, http", "X-Forwarded-Prefix": "/rerank/v2/"},
            "https://sie.example/rerank/v2",
        ),
        ({"Host": "sie.example", "X-Forwarded-Proto": "javascript"}, "http://sie.example"),
        ({"Host": "sie.example", "X-Forwarded-Prefix": "/a;reboot"}, "http://sie.example"),
        ({"Host": "sie.example", "X-Forwarded-Prefix": "//evil"}, "http://sie.example"),
    ],
)
def test_the_commands_go_to_where_the_page_was_asked_for(api: httpx2.Client, headers: dict[str, str], url: str) -> None:
    check_commands(api, headers, url)


@pytest.mark.parametrize("host", ["$(reboot)", "a;b", "<script>alert(1)</script>", "a b", "'x", "`id`", "a" * 300])
def test_an_invalid_host_is_not_repeated(api: httpx2.Client, host: str) -> None:
    check_commands(api, {"X-Forwarded-Host": host}, str(api.base_url).rstrip("/"))
    assert host not in api.get("/docs", headers={"X-Forwarded-Host": host}).text


def test_links_are_relative_to_the_page(api: httpx2.Client) -> None:
    page = api.get("/docs").text
    links = re.findall(r"<a href=([^ >]+)", page)
    assert [link for link in links if not link.startswith('"#')] == ["openapi.json", "v1/models"]
    # The contents lead to each operation.
    anchors = re.findall(r'<h2 id="([^"]+)"', page)
    assert {link.strip('"#') for link in links if link.startswith('"#')} == set(anchors)
    assert len(set(anchors)) == len(anchors) > 100
