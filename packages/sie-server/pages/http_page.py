"""Routes, bodies and answers, from the OpenAPI document."""

import json
import re
from collections.abc import Iterator
from typing import Any

from sie_server.api.openapi import openapi

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/"
# An answer of more kinds than these depends on the API whose fields the body has.
_MAX_KINDS = 4


def parts() -> dict[str, str]:
    """The generated parts of docs/reference/http.md."""
    document = openapi()
    schemas = document["components"]["schemas"]
    sections = (_section(name, schema) for name, schema in schemas.items())
    routes = ["| Route | | Body | Answer |", "|---|---|---|---|", *_routes(document)]
    return {"routes": "\n".join(routes), "schemas": "\n\n".join(sections)}


def _routes(document: Schema) -> Iterator[str]:
    """A row per operation; paths with the same summary, body and answer share one."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = _kinds(operation.get("requestBody", {})) or "–"
            answer = _kinds(operation["responses"].get("200", {})) or "–"
            rows.setdefault((method.upper(), operation["summary"], body, answer), []).append(path)
    for (method, summary, body, answer), paths in rows.items():
        yield f"| {'<br>'.join(f'`{method} {path}`' for path in paths)} | {summary} | {body} | {answer} |"


def _kinds(message: Schema) -> str:
    """The types of a body or an answer, whatever its encoding."""
    schemas = [media["schema"] for media in message.get("content", {}).values()]
    kinds = list(dict.fromkeys(kind for schema in schemas for kind in _alternatives(schema)))
    return "that of the API whose fields the body has" if len(kinds) > _MAX_KINDS else " or ".join(kinds)


def _section(name: str, schema: Schema) -> str:
    """A schema as a heading, its description and a table of its fields."""
    lines = [f"### {_short(name)}"]
    if text := schema.get("description"):
        lines.append("\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n")))
    if properties := schema.get("properties"):
        required = schema.get("required", ())
        rows = [
            f"| `{field}` | {_type(each)} | {_given(field, each, required)} |" for field, each in properties.items()
        ]
        lines.append("\n".join(["| Field | Type | Default |", "|---|---|---|", *rows]))
    elif "enum" in schema:
        lines.append(_type(schema))
    return "\n\n".join(lines)


def _given(field: str, schema: Schema, required: list[str]) -> str:
    if field in required:
        return "required"
    default = schema.get("default")
    return "–" if default in (None, [], {}, "") else f"`{json.dumps(default)}`"


def _type(schema: Schema) -> str:
    return " or ".join(kind for kind in _alternatives(schema) if kind != "null") or "null"


def _alternatives(schema: Schema) -> list[str]:
    if "anyOf" in schema:
        return list(dict.fromkeys(kind for each in schema["anyOf"] for kind in _alternatives(each)))
    if "$ref" in schema:
        name = _short(schema["$ref"].removeprefix(_REFERENCE))
        return [f"[{name}](#{name.lower()})"]
    if "enum" in schema:
        return [", ".join(f"`{value}`" for value in schema["enum"])]
    match schema.get("type"):
        case "array":
            return [f"list of {_type(schema.get('items') or {})}"]
        case "object" if isinstance(values := schema.get("additionalProperties"), dict) and values:
            return [f"object of {_type(values)}"]
        case "integer" | "number" as kind if "minimum" in schema:
            return [f"{kind} from {schema['minimum']}"]
        case str() as kind:
            return [kind]
        case _:
            return ["any"]


def _short(name: str) -> str:
    """A schema's name, with the last folder of those that two share: `CohereTokens`."""
    *_, module, kind = name.replace("sie_server.", "").rsplit(".", 2) if "." in name else ("", name)
    return re.sub(r"\W", "", module.title()) + kind
