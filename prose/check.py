"""Checks the English of the documentation and of the messages that users read, with the grammar checker Harper.

    python prose/check.py             # or: make lint

`rules/` holds the house's own rules, in Harper's language Weir; each file has its tests. `vocabulary.txt` holds the
words that Harper's dictionary lacks. In Python files, docstrings and error messages are checked; in TypeScript files,
documentation comments.
"""

import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).resolve().parents[1]
HERE = Path(__file__).parent
DOCUMENTS = ("*.md", "docs/*.md", "packages/*/README.md", "examples/*.md", "benchmarks/README.md", "reliability/*.md")
PYTHON = (
    "packages/*/src/**/*.py",
    "packages/sie-server/hatch_build.py",
    "packages/sie-server/pages/*.py",
    "examples/*.py",
    "benchmarks/*.py",
    "reliability/*.py",
    "prose/*.py",
)
TYPESCRIPT = ("packages/sie-ts/src/**/*.ts",)
# Harper's rules that do not fit: headings are in sentence case; list items and table cells are not sentences; units and
# names are written as in the code; and some of its guesses are mostly wrong here.
IGNORED = (
    "Everybody",
    "Overall",
    "PhrasalVerbAsCompoundNoun",
    "PronounKnew",
    "CompoundNouns",
    "DisjointPrefixes",
    "MassNouns",
    "MergeWords",
    "MissingTo",
    "OkToOkay",
    "QuantifierNumeralConflict",
    "UseEllipsisCharacter",
    "UseTitleCase",
    "SentenceCapitalization",
    "ExpandMemoryShorthands",
    "ExpandTimeShorthands",
    "ExpandConfiguration",
    "OxfordComma",
    "SplitWords",
    "OrthographicConsistency",
)
# A docstring says what the thing is: it starts with a verb or a noun phrase.
RIDDLE = re.compile(r"(?:What|How|Which|Who|Whose|Those|That which|Of (?:each|every|all|the|those|these|a))\b")
DOC_COMMENT = re.compile(r"/\*\*(.*?)\*/", re.DOTALL)


@dataclass(frozen=True)
class Prose:
    """A docstring, comment or error message of a module."""

    line: int
    text: str
    is_docstring: bool


@dataclass(frozen=True)
class Complaint:
    path: Path
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.rule}: {self.message}"


def main() -> int:
    rules = sorted((HERE / "rules").glob("*.weir"))
    for rule in rules:
        harper("test", rule)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pack = pack_of(rules, folder / "house.weirpack")
        documents = {path: path.read_text() for path in found(DOCUMENTS)}
        complaints = checked(documents, folder, "--weirpacks", pack, "--ignore", ",".join(IGNORED))
        # Of the sources the house's rules alone: what is a sentence in a docstring or message, Harper's can't tell.
        sources = {path: list(python_prose(path)) for path in found(PYTHON)}
        sources |= {path: list(typescript_prose(path)) for path in found(TYPESCRIPT)}
        texts = {path: spread(prose) for path, prose in sources.items()}
        house = ",".join(rule.stem for rule in rules)
        for each in checked(texts, folder, "--weirpacks", pack, "--only", house):
            complaints.append(replace(each, line=each.line // 2))
        for path, prose in sources.items():
            complaints += riddles(path, prose)
    for complaint in sorted(complaints, key=lambda each: (each.path, each.line)):
        print(complaint)
    return 1 if complaints else 0


def found(patterns: Iterable[str]) -> list[Path]:
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def riddles(path: Path, prose: list[Prose]) -> Iterator[Complaint]:
    """The docstrings that open with a relative clause."""
    for each in prose:
        if each.is_docstring and RIDDLE.match(each.text):
            yield Complaint(path, each.line, "Riddle", f"start with a verb or a noun phrase: {each.text[:60]!r}")


def spread(prose: list[Prose]) -> str:
    """The texts of a module, each on twice its source line: with an empty line between them, they are paragraphs."""
    lines = [""] * (2 * max((each.line for each in prose), default=0))
    for each in prose:
        lines[2 * each.line - 1] += " " + " ".join(each.text.split())
    return "\n".join(lines)


def checked(texts: dict[Path, str], folder: Path, *flags: str | Path) -> list[Complaint]:
    """Harper's complaints about these texts. It tells files apart by their last name only, hence the copies."""
    names = {f"{number}.md": path for number, path in enumerate(texts)}
    for name, path in names.items():
        (folder / name).write_text(texts[path])
    vocabulary = ("--user-dict-path", HERE / "vocabulary.txt", "--dialect", "us")
    said = harper("lint", "--format", "json", "--quiet", *vocabulary, *flags, *(folder / name for name in names))
    return [
        Complaint(names[file["file"]], lint["line"], lint["rule"], lint["message"])
        for file in json.loads(said)
        for lint in file["lints"]
        if lint["rule"] != "LongSentences"
        or not texts[names[file["file"]]].splitlines()[lint["line"] - 1].startswith("|")
    ]


def python_prose(path: Path) -> Iterator[Prose]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if docstring := ast.get_docstring(node):
                yield Prose(node.body[0].lineno, docstring, is_docstring=True)
        elif isinstance(node, ast.Call) and called(node.func).endswith("Error"):
            for argument in node.args:
                if (text := text_of(argument)) is not None:
                    yield Prose(argument.lineno, text, is_docstring=False)


def typescript_prose(path: Path) -> Iterator[Prose]:
    """The documentation comments, without their asterisks and tags."""
    source = path.read_text()
    for comment in DOC_COMMENT.finditer(source):
        text = re.sub(r"^[ \t]*\*?[ \t]*(?:@\w+[ \t]*)?", "", comment[1], flags=re.MULTILINE).strip()
        yield Prose(source.count("\n", 0, comment.start()) + 1, text, is_docstring=True)


def called(function: ast.expr) -> str:
    return function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")


def text_of(argument: ast.expr) -> str | None:
    """A message's text, with a number in place of each value that is put in."""
    if isinstance(argument, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "7" for part in argument.values)
    return argument.value if isinstance(argument, ast.Constant) and isinstance(argument.value, str) else None


def pack_of(rules: Iterable[Path], pack: Path) -> Path:
    """Write the rules as the archive that Harper reads."""
    with ZipFile(pack, "w") as archive:
        archive.writestr(
            "manifest.json", json.dumps(dict.fromkeys(("author", "version", "description", "license"), "-"))
        )
        for rule in rules:
            archive.write(rule, rule.name)
    return pack


def harper(*arguments: str | Path) -> str:
    """Output of Harper; status 1 of `lint` says that it found something.

    Raises:
        RuntimeError: Harper has failed, or a rule does not do what its tests say.
    """
    command = [sys.executable, "-m", "harper", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode != 0 and not done.stdout.startswith("[\n"):
        raise RuntimeError(f"{arguments[0]} {arguments[1]}: {done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
