"""The Python programs of the documentation pass the type checker that editors show."""

import subprocess
import sys

from sie_testing.snippets import programs


def test_programs_pass_pyright(tmp_path):
    for number, program in enumerate(programs()):
        (tmp_path / f"program_{number}.py").write_text(program.text)
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "standard"}')
    pyright = [sys.executable, "-m", "basedpyright", "--project", tmp_path, "--pythonpath", sys.executable]
    checked = subprocess.run(pyright, capture_output=True, text=True, cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
