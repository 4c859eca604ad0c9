"""Reference of the TypeScript SDK, from its declarations and comments."""

import re
from collections.abc import Iterator
from pathlib import Path

import tree_sitter_typescript
from tree_sitter import Language, Node, Parser

_SOURCE = Path(__file__).resolve().parents[2] / "sie-ts" / "src"
_TYPES = {"interface_declaration", "type_alias_declaration"}
_MEMBERS = {"method_definition", "method_signature", "public_field_definition"}
_TAG = re.compile(r"^@(\w+) ?(.*)$", re.DOTALL)


def parts() -> dict[str, str]:
    """The generated part of docs/reference/typescript.md."""
    modules = [
        *_module("index.ts", "The package", 'import { … } from "@sie/sdk"'),
        *_module("scoring.ts", "Late interaction", 'import { … } from "@sie/sdk/scoring"'),
    ]
    return {"modules": "\n\n".join(modules)}


def _module(file: str, title: str, imported: str) -> Iterator[str]:
    yield f"## {title}"
    yield f"`{imported}`"
    exported = list(_exported(_SOURCE / file))
    # Classes and functions first, then the types.
    for node in sorted(exported, key=lambda node: node.type in _TYPES):
        yield from _declaration(node)


def _exported(path: Path, names: frozenset[str] | None = None) -> Iterator[Node]:
    """Declarations that a module exports, those of other modules included. names: of these alone."""
    for statement in _parsed(path).children:
        if statement.type != "export_statement":
            continue
        if (declaration := statement.child_by_field_name("declaration")) is not None:
            if names is None or _name(declaration) in names:
                yield declaration
        elif (source := statement.child_by_field_name("source")) is not None:
            other = (path.parent / _text(source).strip('"')).with_suffix(".ts")
            clause = next((child for child in statement.children if child.type == "export_clause"), None)
            listed = [_text(each.child_by_field_name("name")) for each in clause.named_children] if clause else None
            yield from _exported(other, frozenset(listed) if listed is not None else names)


def _declaration(node: Node) -> Iterator[str]:
    yield f"### {_name(node)}"
    if node.type == "class_declaration":
        yield from _class(node)
        return
    yield _code(_head(node) if node.type == "function_declaration" else _text(node))
    yield from _prose(_comment(node))


def _class(node: Node) -> Iterator[str]:
    """The fields of a class, its comment, and its methods; of an overloaded one, all signatures but the last."""
    body = _field(node, "body")
    members = [child for child in body.children if child.type in _MEMBERS and not _is_private(child)]
    head = (node.text or b"")[: body.start_byte - node.start_byte].decode().strip()
    fields = [f"  {_text(member)};" for member in members if member.type == "public_field_definition"]
    yield _code("\n".join([f"{head} {{", *fields, "}"]) if fields else head)
    yield from _prose(_comment(node))
    methods: dict[str, list[Node]] = {}
    for member in members:
        if member.type != "public_field_definition":
            methods.setdefault(_name(member), []).append(member)
    for name, declared in methods.items():
        yield f"#### {f'new {_name(node)}' if name == 'constructor' else name}"
        signatures = declared[:-1] if len(declared) > 1 else declared
        yield _code("\n".join(_head(each) for each in signatures))
        yield from _prose(_comment(declared[0]))


def _is_private(member: Node) -> bool:
    name = _name(member)
    return name.startswith(("#", "_", "[")) or any(child.type == "accessibility_modifier" for child in member.children)


def _head(node: Node) -> str:
    """A function or method without its body."""
    body = node.child_by_field_name("body")
    text = _text(node) if body is None else (node.text or b"")[: body.start_byte - node.start_byte].decode()
    indent = " " * (node.start_point.column if node.type in _MEMBERS else 0)
    return re.sub(rf"^{indent}", "", re.sub(r"^(async|static) ", "", text.strip()), flags=re.MULTILINE)


def _comment(node: Node) -> str:
    """The documentation comment in front of a declaration, without its asterisks."""
    outer = node.parent if node.parent is not None and node.parent.type == "export_statement" else node
    before = outer.prev_sibling
    if before is None or before.type != "comment" or not _text(before).startswith("/**"):
        return ""
    return re.sub(r"^[ \t]*\*? ?", "", _text(before)[3:-2], flags=re.MULTILINE).strip()


def _prose(comment: str) -> Iterator[str]:
    """The text of a comment, its parameters as a table, and its other tags as paragraphs."""
    text, *tags = re.split(r"^(?=@)", comment, flags=re.MULTILINE)
    if text.strip():
        # Examples in comments are fragments, which are not run.
        yield text.strip().replace("```ts\n", "```typescript\n")
    rows = []
    for tag in tags:
        kind, said = _TAG.match(tag.strip()).groups()  # type: ignore[union-attr]  # each part starts with one
        said = " ".join(said.split())
        if kind == "param":
            name, _, meaning = said.partition(" - ")
            rows.append(f"| `{name}` | {meaning} |")
        elif kind in ("returns", "throws"):
            yield from _table(rows)
            rows = []
            yield f"**{kind.title()}** {said}"
    yield from _table(rows)


def _table(rows: list[str]) -> Iterator[str]:
    if rows:
        yield "\n".join(["| Argument | |", "|---|---|", *rows])


def _parsed(path: Path) -> Node:
    parser = Parser(Language(tree_sitter_typescript.language_typescript()))
    return parser.parse(path.read_bytes()).root_node


def _field(node: Node, name: str) -> Node:
    child = node.child_by_field_name(name)
    assert child is not None
    return child


def _name(node: Node) -> str:
    if node.type == "lexical_declaration":
        return _text(_field(node.named_children[0], "name"))
    return _text(_field(node, "name"))


def _text(node: Node | None) -> str:
    assert node is not None
    assert node.text is not None
    return node.text.decode()


def _code(text: str) -> str:
    return f"```typescript\n{text}\n```"
