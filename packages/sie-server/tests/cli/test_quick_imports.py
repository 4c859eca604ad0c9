"""What a process that serves imports before it listens, and what it leaves for later."""

import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from sie_server.cli.quick_imports import UNUSED

LEFT_OUT = ["huggingface_hub", "jinja2", "opentelemetry", "sympy", "torch._decomp", "torch._dynamo", "transformers"]

MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"
SERVER = f"""
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import sie_server.server
{MODULES}
from sie_server.catalog.catalog import shipped
from sie_testing.engine_loop import running
from sie_testing.serving import EMBEDDED
with running({{EMBEDDED: shipped()[EMBEDDED]}}, preload=()) as running:
    running.score(EMBEDDED, "what is python", ["a snake", "a language"])
{MODULES}
"""
# Pickled weights are read with modules that all others need not have, and which import each other in circles.
LATER = """
import gc, sys
from pathlib import Path
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import torch
    from sie_server.checkpoints.tensor_file import open_tensors
assert gc.isenabled()
torch.optim.SGD([torch.nn.Parameter(torch.ones(2))])
path = Path(sys.argv[1])
torch.save({"weight": torch.ones(3, 4)}, path)
print(open_tensors(path).tensors["weight"].shape)
with quick_imports():
    import torch._meta_registrations
assert torch._meta_registrations.__file__
print(torch.nn.functional.huber_loss(torch.empty(3, device="meta"), torch.empty(3, device="meta")).device)
"""


def output(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_the_command_line_needs_no_torch() -> None:
    modules = json.loads(output(f"import sie_server.cli.main; {MODULES}"))
    assert not {"torch", "numpy", "rich", "sie_server.server", *LEFT_OUT} & {*modules}


@pytest.mark.skipif(not version("torch").endswith("+cpu"), reason="another build of torch is imported whole")
def test_a_server_imports_nothing_that_it_does_not_need() -> None:
    listening, scored = map(json.loads, output(SERVER).splitlines())
    assert "torch" in listening
    assert not {*LEFT_OUT, *UNUSED} & {*listening}
    assert not {*UNUSED} & {*scored}


def test_what_was_left_out_is_imported_by_whoever_needs_it(tmp_path: Path) -> None:
    assert output(LATER, tmp_path / "pytorch_model.bin") == "(3, 4)\nmeta\n"
