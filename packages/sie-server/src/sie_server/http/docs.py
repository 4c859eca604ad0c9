"""`GET /docs`: the OpenAPI document as a page, with nothing fetched from elsewhere."""

from html import escape
from typing import Any

import msgspec

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;color:#1c2330}"
    "code,pre{font:14px/1.5 ui-monospace,monospace;background:#f3f5f8;border-radius:4px;padding:.1em .3em}"
    "pre{padding:1rem;overflow:auto}h2{margin-top:2rem;font-size:1.1rem}.method{color:#0b62c4;font-weight:600}"
    "table{border-collapse:collapse}td,th{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top}"
)


def docs(document: dict[str, Any]) -> str:
    """HTML page of an OpenAPI document."""
    info = document["info"]
    operations = [
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    title = f"{escape(info['title'])} {escape(info['version'])}"
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style>"
        f"<h1>{title}</h1><p>{escape(info['description'])} "
        "The same for machines: <a href=/openapi.json>/openapi.json</a>. "
        "What is served: <a href=/v1/models>/v1/models</a>.</p>" + "".join(operations) + "</html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{status}</code><td>{escape(response['description'])}"
        for status, response in operation["responses"].items()
    )
    heading = f"<h2><span class=method>{method.upper()}</span> <code>{escape(path)}</code></h2>"
    return f"{heading}<p>{escape(operation['summary'])}</p>{_example(path, operation)}<table>{rows}</table>"


def _example(path: str, operation: dict[str, Any]) -> str:
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("example")
    if body is None:
        return ""
    for parameter in operation.get("parameters", ()):
        path = path.replace(f"{{{parameter['name']}}}", parameter.get("example", ""))
    command = (
        f"curl http://localhost:8080{path} \\\n"
        "  -H 'Content-Type: application/json' -H 'Accept: application/json' \\\n"
        f"  -d '{msgspec.json.encode(body).decode()}'"
    )
    return f"<pre>{escape(command)}</pre>"
