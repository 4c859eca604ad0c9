"""The Python programs of the documentation pass the type checker that editors show."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = ["README.md", "docs/embeddings.md", "docs/integrations.md", "docs/sdk-python.md"]
# The parts of this page are one program.
WHOLE = "packages/sie-sdk/README.md"


def test_programs_pass_pyright(tmp_path):
    programs = [program for page in PAGES for program in blocks(page) if "sie_sdk" in program]
    for number, program in enumerate([*programs, "".join(blocks(WHOLE))]):
        (tmp_path / f"program_{number}.py").write_text(program)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    pyright = [sys.executable, "-m", "basedpyright", "--project", tmp_path, "--pythonpath", sys.executable]
    checked = subprocess.run(pyright, capture_output=True, text=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)
