"""What a process that serves imports before it listens, and what it leaves for later."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest

LEFT_OUT = ["huggingface_hub", "jinja2", "opentelemetry", "sympy", "torch._decomp", "torch._dynamo", "transformers"]

MODULES = "import json, sys; print(json.dumps(sorted(sys.modules)))"
SERVER = f"""
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import sie_server.server
{MODULES}
"""
LATER = """
import gc
from sie_server.cli.quick_imports import quick_imports
with quick_imports():
    import torch
assert gc.isenabled()
with quick_imports():
    import torch._meta_registrations
assert torch._meta_registrations.__file__
print(torch.nn.functional.huber_loss(torch.empty(3, device="meta"), torch.empty(3, device="meta")).device)
"""


def output(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


def test_the_command_line_needs_no_torch() -> None:
    modules = json.loads(output(f"import sie_server.cli.main; {MODULES}"))
    assert not {"torch", "numpy", "sie_server.server", *LEFT_OUT} & {*modules}


@pytest.mark.skipif(not version("torch").endswith("+cpu"), reason="another build of torch is imported whole")
def test_a_server_imports_nothing_that_it_does_not_need_to_start() -> None:
    modules = json.loads(output(SERVER))
    assert "torch" in modules
    assert not {*LEFT_OUT, "torch._meta_registrations"} & {*modules}


def test_what_was_left_out_is_imported_by_whoever_needs_it() -> None:
    assert output(LATER) == "meta\n"
