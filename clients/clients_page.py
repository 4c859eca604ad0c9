"""Write the generated parts of docs/clients.md, out of the held list and the snippets (`make docs`)."""

import re
from pathlib import Path

from held import FOLDER, Client, clients

PAGE = FOLDER.parent / "docs" / "clients.md"
_HEAD = (
    "| Client | What to set | What works | What does not, and what to know |",
    "|---|---|---|---|",
)
_LANGUAGES = {".py": "python", ".mjs": "javascript"}


def page(text: str) -> str:
    """Replace what stands between the markers."""
    held = clients()
    counted = sum(len(client.works) for client in held), sum(len(client.fails) for client in held)
    told = f"{counted[0]} of {sum(counted)} calls by {len(held)} clients work unchanged"
    summary = f"{told}; `make test-clients` makes them all."
    for name, part in (
        ("summary", summary),
        ("clients", "\n".join([*_HEAD, *map(_row, held)])),
        ("snippets", "\n\n".join(_snippet(client) for client in held if client.snippet)),
    ):
        marked = re.compile(rf"(?<=<!-- {name} -->\n).*(?=<!-- /{name} -->)", re.DOTALL)
        start, end = match.span() if (match := marked.search(text)) else (0, 0)
        assert end, f"docs/clients.md has no part {name}"
        text = f"{text[:start]}{part}\n{text[end:]}"
    return text


def _row(client: Client) -> str:
    name = f"`{client.name}`<br>" + (f"`{client.versions()}`" if client.packages else "its requests, replayed")
    works = [f"`{call}`" for call in client.works]
    fails = [f"`{call}`: {failing.why}" for call, failing in client.fails.items()]
    listed = f"<details><summary>{len(works)} calls</summary>{'<br>'.join(works)}</details>" if works else "–"
    cells = (name, client.set, listed, "<br>".join([*fails, *([client.note] if client.note else [])]))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _snippet(client: Client) -> str:
    path = Path(client.snippet)
    code = (FOLDER / "snippets" / path).read_text()
    where = "`make test-clients`, in an environment of its own"
    return f"### `{client.name}`\n\n<!-- run by: {where} -->\n```{_LANGUAGES[path.suffix]}\n{code}```"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
