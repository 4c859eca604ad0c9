"""Import time and installed size of the SDKs.

    python benchmarks/packages.py

Import time is processor time in a fresh interpreter, the least of some runs; where a client is made as well, the HTTP
library is imported too. `python -X importtime -c 'import sie_sdk'` says where it goes. Sizes are of the package as it
is published, as it is installed, and with all it depends on. The TypeScript package is built for that; it is left out
where there is no npm.
"""

import argparse
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

PACKAGES = Path(__file__).resolve().parents[1] / "packages"
PYTHON = {
    "sie_sdk": "import sie_sdk",
    "with SIEClient": "import sie_sdk; sie_sdk.SIEClient('http://localhost')",
    "with SIEAsyncClient": "import sie_sdk; sie_sdk.SIEAsyncClient('http://localhost')",
}
IN_PYTHON = "import time; started = time.process_time(); {}; print((time.process_time() - started) * 1e3)"
NODE = {"@sie/sdk": "await import('./dist/esm/index.js')", "@sie/sdk/scoring": "await import('./dist/esm/scoring.js')"}
IN_NODE = (
    "const before = process.cpuUsage(); {}; const {{ user, system }} = process.cpuUsage(before);"
    " console.log((user + system) / 1e3)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()

    python = [sys.executable, "-c"]
    figures: dict[str, dict[str, Mapping[str, float]]] = {
        "sie-rerank-sdk": {"import ms": imports(python, PYTHON, IN_PYTHON, arguments.runs), "bytes": python_sizes()}
    }
    if shutil.which("npm"):
        folder = PACKAGES / "sie-ts"
        subprocess.run(["npm", "run", "--silent", "build"], cwd=folder, check=True)
        node = ["node", "--input-type=module", "-e"]
        figures["@sie/sdk"] = {
            "import ms": imports(node, NODE, IN_NODE, arguments.runs, folder),
            "bytes": node_sizes(folder),
        }
    for package, kinds in figures.items():
        table = Table(show_header=False, title=package)
        for name, ms in kinds["import ms"].items():
            table.add_row(f"import: {name}", f"{ms:.0f} ms")
        for name, size in kinds["bytes"].items():
            table.add_row(f"size: {name}", f"{size / 1e6:.2f} MB")
        Console().print(table)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2))


def imports(
    command: Sequence[str], programs: dict[str, str], around: str, runs: int, folder: Path | None = None
) -> dict[str, float]:
    """CPU milliseconds per program."""

    def once(program: str) -> float:
        return float(subprocess.check_output([*command, around.format(program)], cwd=folder))

    return {name: min(once(program) for _ in range(runs)) for name, program in programs.items()}


def python_sizes() -> dict[str, int]:
    with tempfile.TemporaryDirectory() as name:
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", name]
        subprocess.run([*build, PACKAGES / "sie-sdk"], check=True)
        [wheel] = Path(name).iterdir()
        published = wheel.stat().st_size
    installed = files(PACKAGES / "sie-sdk" / "src")
    needed = {package: distribution_size(package) for package in sorted(set(dependencies("sie-rerank-sdk")))}
    return {
        "wheel": published,
        "installed": installed,
        "with what it depends on": installed + sum(needed.values()),
        **{f"  of that {package}": size for package, size in needed.items() if size > 1e6},
    }


def dependencies(package: str) -> Iterator[str]:
    """All dependencies of a package, without extras."""
    for requirement in importlib.metadata.requires(package) or []:
        name = re.match(r"[\w.-]+", requirement)
        if name and "extra ==" not in requirement and installed_here(name[0]):
            yield name[0].lower()
            yield from dependencies(name[0])


def installed_here(package: str) -> bool:
    return any(importlib.metadata.distributions(name=package))


def distribution_size(package: str) -> int:
    located = (Path(str(path.locate())) for path in importlib.metadata.files(package) or [])
    return sum(path.stat().st_size for path in located if path.exists() and path.suffix != ".pyc")


def node_sizes(folder: Path) -> dict[str, int]:
    packed = subprocess.run(["npm", "pack", "--dry-run", "--json"], cwd=folder, check=True, capture_output=True)
    [about] = json.loads(packed.stdout[packed.stdout.index(b"[") :])
    needed = json.loads((folder / "package.json").read_text())["dependencies"]
    depends = sum(files(folder / "node_modules" / name) for name in needed)
    return {
        "tarball": about["size"],
        "installed": about["unpackedSize"],
        "with what it depends on": about["unpackedSize"] + depends,
    }


def files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


if __name__ == "__main__":
    main()
