"""Makes a judged dataset in BEIR's format from the documentation inside Python's standard library.

    python examples/judged_python_docs.py FOLDER [QUERIES]

Every docstring that says more than its first paragraph becomes two texts: the first paragraph is a query, the rest is
the document that answers it. Each query has one relevant document, which need not share a word with it. 60 QUERIES by
default; the documents are all that there are.
"""

import importlib
import inspect
import json
import random
import sys
from collections.abc import Iterator
from pathlib import Path

MODULES = """
argparse array ast asyncio base64 bisect calendar codecs collections collections.abc concurrent.futures configparser
contextlib copy csv ctypes dataclasses datetime decimal difflib email.message email.utils enum fileinput fnmatch
fractions functools getpass glob gzip hashlib heapq hmac html http.client http.cookies imaplib inspect io ipaddress
itertools json logging logging.handlers lzma mailbox math mimetypes multiprocessing operator os os.path pathlib pickle
platform pprint queue random re sched secrets select selectors shelve shlex shutil signal smtplib socket socketserver
sqlite3 ssl statistics string struct subprocess sys tarfile tempfile textwrap threading time timeit tokenize trace
traceback types unicodedata unittest unittest.mock urllib.parse urllib.request urllib.robotparser uuid warnings
wave weakref xml.dom.minidom xml.etree.ElementTree zipfile zipimport zlib
""".split()  # noqa: SIM905 # a list of a hundred strings fills a page
SHORTEST = 150


def docstrings() -> Iterator[tuple[str, str]]:
    """Names and docstrings of the public functions, classes and methods."""
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name, member in sorted(vars(module).items()):
            if name.startswith("_") or getattr(member, "__module__", None) != module_name:
                continue
            yield f"{module_name}.{name}", inspect.getdoc(member) or ""
            if inspect.isclass(member):
                for method, function in sorted(vars(member).items()):
                    if not method.startswith("_"):
                        yield f"{module_name}.{name}.{method}", inspect.getdoc(function) or ""


def pairs() -> dict[str, tuple[str, str]]:
    """First paragraph and rest of each docstring by name; no paragraph is there twice."""
    found: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    for name, docstring in docstrings():
        first, _, rest = docstring.partition("\n\n")
        first, rest = " ".join(first.split()), " ".join(rest.split())
        if len(rest) >= SHORTEST and len(first.split()) >= 3 and not seen & {first, rest}:
            seen |= {first, rest}
            found[name] = first, rest
    return found


def write(path: Path, lines: list[dict[str, str]]) -> None:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder, queries = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 60
    found = pairs()
    asked = sorted(random.Random(1).sample(sorted(found), min(queries, len(found))))
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    write(folder / "corpus.jsonl", [{"_id": name, "text": rest} for name, (_, rest) in found.items()])
    write(folder / "queries.jsonl", [{"_id": name, "text": found[name][0]} for name in asked])
    rows = ["query-id\tcorpus-id\tscore", *(f"{name}\t{name}\t1" for name in asked)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{folder}: {len(found):,} documents and {len(asked):,} queries, each with one relevant document")


if __name__ == "__main__":
    main()
