"""`GET /docs`: the OpenAPI document as a page, with nothing fetched from elsewhere."""

import re
from html import escape
from typing import Any

import msgspec
from starlette.requests import Request

# People paste the page's commands into a shell: nothing else gets into them.
_HOST = re.compile(r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?", re.ASCII)
_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]+)*", re.ASCII)
# An anchor of a path with a parameter.
_NO_BRACES = str.maketrans("", "", "{}")
_STYLE = (
    ":root{color-scheme:light dark;--ink:#1c2330;--paper:#fff;--shade:#f3f5f8;--accent:#0b62c4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ef;--paper:#14171c;--shade:#20252d;--accent:#7cb2ff}}"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:var(--ink);"
    "background:var(--paper)}a{color:var(--accent)}"
    "code,pre{font:14px/1.5 ui-monospace,monospace;background:var(--shade);border-radius:4px;padding:.1em .3em}"
    "pre{padding:1rem;overflow:auto}h2{margin-top:2rem;font-size:1.1rem}.method{color:var(--accent);font-weight:600}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}"
    "nav li{margin:.2rem 0}nav code{white-space:nowrap}"
)


def base_url_of(request: Request) -> str:
    """The URL under which the client reaches the server, from the Host header and the headers that proxies add."""

    def first(name: str, default: str) -> str:
        # Of several proxies, the first is the one that the client talks to.
        return request.headers.get(name, default).partition(",")[0].strip()

    host = first("x-forwarded-host", first("host", ""))
    if not _HOST.fullmatch(host):
        name, port = request.scope.get("server") or ("localhost", None)
        host = f"[{name}]" if ":" in name else name
        host = host if port is None else f"{host}:{port}"
    scheme = first("x-forwarded-proto", request.url.scheme)
    prefix = first("x-forwarded-prefix", "").rstrip("/")
    return f"{'https' if scheme == 'https' else 'http'}://{host}{prefix if _PREFIX.fullmatch(prefix) else ''}"


def docs(document: dict[str, Any], url: str) -> str:
    """HTML page of an OpenAPI document, with requests to the server at `url`."""
    info = document["info"]
    sections, contents = [], dict[str, list[str]]()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            anchor = f"{method}{path.translate(_NO_BRACES)}"
            link = f'<a href="#{escape(anchor)}"><code>{escape(path)}</code></a>'
            contents.setdefault(operation["summary"], []).append(link)
            sections.append(_operation(url, method, path, anchor, operation))
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        # Without it, browsers ask for a file of the host.
        '<meta name=viewport content="width=device-width"><link rel=icon href="data:,">'
        f"<title>{title}</title><style>{_STYLE}</style>"
        # Relative to the page, so that a proxy may put a prefix in front of both.
        f"<h1>{title}</h1><p>{escape(info['description'])} "
        "Fields and types are in the OpenAPI document, <a href=openapi.json>/openapi.json</a>. "
        "The models are at <a href=v1/models>/v1/models</a>.</p><nav><ul>"
        + "".join(f"<li>{escape(summary)}: {' '.join(links)}" for summary, links in contents.items())
        + "</ul></nav>"
        + "".join(sections)
        + "</html>"
    )


def _operation(url: str, method: str, path: str, anchor: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{escape(response['description'])}"
        for status, response in operation["responses"].items()
    )
    name = f"<span class=method>{method.upper()}</span> <code>{escape(path)}</code>"
    answers = f"<details><summary>Answers</summary><table>{rows}</table></details>"
    heading = f'<h2 id="{escape(anchor)}">{name}</h2>'
    return f"{heading}<p>{escape(operation['summary'])}</p>{_example(url, path, operation)}{answers}"


def _example(url: str, path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is None:
        return ""
    for parameter in operation.get("parameters", ()):
        path = path.replace(f"{{{parameter['name']}}}", parameter.get("example", ""))
    command = (
        f"curl {url}{path} \\\n"
        "  -H 'Content-Type: application/json' -H 'Accept: application/json' \\\n"
        f"  -d '{msgspec.json.encode(body).decode()}'"
    )
    return f"<pre>{escape(command)}</pre>"
