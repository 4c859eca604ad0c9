"""Reference of the Python SDK, from its docstrings and types."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import griffe
from griffe import Alias, Attribute, Class, DocstringSectionKind, Function, Object

_SOURCE = Path(__file__).resolve().parents[2] / "sie-sdk" / "src"
# The modules that programs import. Errors are members of the package too.
_MODULES = {
    "sie_sdk": "Clients and embeddings",
    "sie_sdk.types": "Types",
    "sie_sdk.scoring": "Late interaction",
    "sie_sdk.errors": "Errors",
    "sie_sdk.langchain": "LangChain",
    "sie_sdk.llamaindex": "LlamaIndex",
    "sie_sdk.haystack": "Haystack",
}
# Names that share an explanation, such as `gpu, pool`, are no fault.
_QUIET: griffe.GoogleOptions = {"warn_unknown_params": False, "warn_missing_types": False}


def parts() -> dict[str, str]:
    """The generated part of docs/reference/python.md."""
    package = griffe.load(
        "sie_sdk", search_paths=[_SOURCE], docstring_parser="google", docstring_options=_QUIET, resolve_aliases=True
    )
    return {"modules": "\n\n".join(part for name, title in _MODULES.items() for part in _module(package, name, title))}


def _module(package: Object | Alias, name: str, title: str) -> Iterator[str]:
    module = package if name == "sie_sdk" else package[name.removeprefix("sie_sdk.")]
    yield f"## {title}"
    yield f"In `{name}`."
    # The blocking client first, which the other one refers to.
    for member in sorted(module.members.values(), key=lambda member: member.name != "SIEClient"):
        if name == "sie_sdk":
            public = member.name in (module.exports or ()) and not member.canonical_path.startswith("sie_sdk.errors")
        else:
            public = not member.is_alias and not member.name.startswith("_")
        if public:
            yield from _member(member, 3)


def _member(member: Object | Alias, level: int) -> Iterator[str]:
    """A class with its public methods, a function, or the name of a type."""
    head = f"{'#' * level} {member.name}"
    target = member.final_target if isinstance(member, Alias) else member
    if isinstance(target, Class):
        yield head
        yield _code(_class(target))
        yield from _docstring(target)
        for each in member.all_members.values():
            if each.is_function and not each.name.startswith("_"):
                yield from _member(each, level + 1)
    elif isinstance(target, Function):
        yield head
        yield _code(f"{'async ' if 'async' in target.labels else ''}def {_wrapped(str(target.signature()))}")
        yield from _docstring(target)
    elif isinstance(target, Attribute) and member.name[0].isupper() and not member.name.isupper():
        yield head
        yield _code(f"{member.name} = {target.value}")


def _class(target: Class) -> str:
    """The constructor of a class that has one of its own, or the keys of a dictionary."""
    if "__init__" in target.members:
        return _wrapped(
            str(target["__init__"].signature()).replace("__init__", target.name, 1).removesuffix(" -> None")
        )
    bases = ", ".join(str(base) for base in target.bases)
    fields = [
        f"    {name}: {each.annotation}" for name, each in target.attributes.items() if each.annotation is not None
    ]
    return "\n".join([f"class {target.name}({bases}):" if bases else f"class {target.name}:", *(fields or ["    ..."])])


def _docstring(target: Object) -> Iterator[str]:
    if target.docstring is None:
        return
    for section in target.docstring.parsed:
        match section.kind:
            case DocstringSectionKind.text:
                yield _text(section.value)
            case DocstringSectionKind.parameters:
                rows = [f"| `{each.name}` | {_line(each.description)} |" for each in section.value]
                yield "\n".join(["| Argument | |", "|---|---|", *rows])
            case DocstringSectionKind.raises:
                raised = [f"`{each.annotation}`: {_line(each.description)}" for each in section.value]
                yield "\n".join(["**Raises**", "", *(f"- {each}" for each in raised)])
            case DocstringSectionKind.returns:
                yield f"**Returns** {' '.join(_line(each.description) for each in section.value)}"
            case DocstringSectionKind.attributes:
                rows = [f"| `{each.name}` | {_line(each.description)} |" for each in section.value]
                yield "\n".join(["| Attribute | |", "|---|---|", *rows])


def _text(text: str) -> str:
    """Paragraphs as they are, and examples as code."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        plain = textwrap.dedent(paragraph)
        paragraphs.append(f"```pycon\n{plain}\n```" if plain.startswith(">>> ") else paragraph)
    return "\n\n".join(paragraphs)


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(text: str) -> str:
    # griffe writes Python's own quotation marks.
    return "\n".join(["```py", text.replace("'", '"'), "```"])


def _wrapped(signature: str) -> str:
    """A signature with an argument per line where it would not fit into one."""
    if len(signature) <= 100:
        return signature
    head, _, rest = signature.partition("(")
    depth, start, arguments = 0, 0, []
    for index, character in enumerate(rest):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            arguments.append(rest[start:index].strip())
            return "\n".join([f"{head}(", *(f"    {each}," for each in arguments if each), f"){rest[index + 1 :]}"])
        if character == "," and depth == 0:
            arguments.append(rest[start:index].strip())
            start = index + 1
    return signature
