"""The three packages are released together, and each of them carries what a release needs."""

import json
import re
from pathlib import Path

import sie_sdk
import sie_sdk._version
import sie_server

ROOT = Path(__file__).resolve().parents[3]


def test_the_packages_have_one_version() -> None:
    manifest = json.loads((ROOT / "packages/sie-ts/package.json").read_text())
    lock = json.loads((ROOT / "packages/sie-ts/package-lock.json").read_text())
    assert sie_server.__version__ == sie_sdk.__version__ == manifest["version"]
    assert lock["version"] == lock["packages"][""]["version"] == manifest["version"]


def test_the_packages_implement_one_version_of_the_interface() -> None:
    source = (ROOT / "packages/sie-ts/src/version.ts").read_text()
    assert sie_server.CONTRACT_VERSION == sie_sdk._version.CONTRACT_VERSION
    assert re.findall(r'CONTRACT_VERSION = "(.*)"', source) == [sie_server.CONTRACT_VERSION]
