"""The three packages are released together, and each of them carries what a release needs."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

import sie_sdk
import sie_sdk._version
import sie_server

ROOT = Path(__file__).resolve().parents[4]


def test_the_packages_have_one_version() -> None:
    manifest = json.loads((ROOT / "packages/sie-ts/package.json").read_text())
    lock = json.loads((ROOT / "packages/sie-ts/package-lock.json").read_text())
    assert sie_server.__version__ == sie_sdk.__version__ == manifest["version"]
    assert lock["version"] == lock["packages"][""]["version"] == manifest["version"]
    newest = re.search(r"^## \[(\d.*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest[1] == manifest["version"]


def test_the_server_requires_the_sdk_of_its_own_version() -> None:
    project = tomllib.loads((ROOT / "packages/sie-server/pyproject.toml").read_text())["project"]
    [required] = [line for line in project["dependencies"] if line.startswith("sie-rerank-sdk")]
    major, minor, _ = sie_server.__version__.split(".")
    assert required == f"sie-rerank-sdk~={major}.{minor}.0"


def test_the_packages_implement_one_version_of_the_interface() -> None:
    source = (ROOT / "packages/sie-ts/src/version.ts").read_text()
    assert sie_server.CONTRACT_VERSION == sie_sdk._version.CONTRACT_VERSION
    assert re.findall(r'CONTRACT_VERSION = "(.*)"', source) == [sie_server.CONTRACT_VERSION]


@pytest.mark.parametrize(
    ("folder", "name"), [("packages/sie-server", "sie-rerank-server"), ("packages/sie-sdk", "sie-rerank-sdk")]
)
def test_a_wheel_has_its_own_name_the_licence_and_the_project_s_address(tmp_path: Path, folder: str, name: str) -> None:
    # A copy, since the build would replace the kernels of the checkout; CXX=false compiles none.
    copy = shutil.copytree(ROOT / folder, tmp_path / "source", ignore=shutil.ignore_patterns("tests", "*.so"))
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path / "dist")]
    environment = {**os.environ, "CXX": "false", "PROJECT_URL": "https://example.org/sie"}
    subprocess.run(build, cwd=copy, env=environment, check=True, capture_output=True)
    [wheel] = (tmp_path / "dist").iterdir()
    about = f"{wheel.name.partition('-py3')[0]}.dist-info"
    with ZipFile(wheel) as opened:
        metadata = Parser().parsestr(opened.read(f"{about}/METADATA").decode())
        licence = opened.read(f"{about}/licenses/LICENSE")
        packed = {name for name in opened.namelist() if "/playground/" in name}
    assert (metadata["Name"], metadata["Version"]) == (name, sie_server.__version__)
    assert metadata["Project-URL"] == "Source, https://example.org/sie"
    page = {f"sie_server/playground/{path.name}" for path in (ROOT / folder).glob("src/*/playground/*")}
    assert packed == {name for name in page if not name.endswith(".d.ts")}
    assert ("sie_server/playground/index.html" in packed) == (name == "sie-rerank-server")
    assert licence == (ROOT / "LICENSE").read_bytes() == (ROOT / "packages/sie-ts/LICENSE").read_bytes()
