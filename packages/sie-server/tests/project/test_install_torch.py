"""Which build of torch `make` installs (packages/sie-server/install_torch.py)."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[4]
INSTALLER = SimpleNamespace(**runpy.run_path(str(ROOT / "packages/sie-server/install_torch.py")))
X86, ARM, MAC = ("Linux", "x86_64"), ("Linux", "aarch64"), ("Darwin", "arm64")
INDEX = "https://builds.example/cpu"
CPU, DEFAULT = "torch==2.13.0+cpu", "torch==2.13.0"


@pytest.mark.parametrize(
    ("choice", "gpu", "system", "tried"),
    [
        ("auto", False, X86, [[CPU], ["--extra-index-url", INDEX, CPU]]),
        ("cpu", True, X86, [[CPU], ["--extra-index-url", INDEX, CPU]]),
        ("auto", True, X86, [[DEFAULT]]),
        ("default", False, X86, [[DEFAULT]]),
        # There, the default build is the one for CPUs, and none is named +cpu.
        ("auto", False, ARM, [[DEFAULT]]),
        ("cpu", False, MAC, [[DEFAULT]]),
    ],
)
def test_without_a_gpu_no_build_with_cuda_is_tried(
    choice: str, gpu: bool, system: tuple[str, str], tried: list[list[str]]
) -> None:
    assert INSTALLER.builds(choice, "2.13.0", INDEX, gpu, system) == tried


def test_another_choice_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="TORCH is 'cuda'; it must be auto, cpu or default"):
        INSTALLER.builds("cuda", "2.13.0", INDEX, False, X86)


def test_the_first_build_that_can_be_had_is_installed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "constraints.txt").write_text("# comment\ntokenizers==1.0\ntorch==2.13.0\n")
    calls: list[list[str]] = []

    def pip(fails: int, arguments: list[str]) -> int:
        calls.append(arguments)
        return int(len(calls) <= fails)

    for fails, status, attempts in ((0, 0, 1), (1, 0, 2), (2, 1, 2)):
        calls.clear()
        got = INSTALLER.install(tmp_path / "constraints.txt", "cpu", INDEX, lambda a, fails=fails: pip(fails, a))
        if len(calls) == 1 and fails:
            pytest.skip("no CUDA comes with the default build on this system")
        assert (got, len(calls)) == (status, attempts)
        assert all(call[:2] == ["--constraint", str(tmp_path / "constraints.txt")] for call in calls)
        assert ("TORCH_INDEX=URL" in capsys.readouterr().err) == bool(status)


def test_the_version_is_that_of_the_constraints() -> None:
    assert INSTALLER.pinned((ROOT / "constraints.txt").read_text()) == "2.13.0"
    with pytest.raises(ValueError, match="do not pin torch"):
        INSTALLER.pinned("torchvision==1\n")


def test_a_gpu_is_recognized_by_its_driver(tmp_path: Path) -> None:
    assert not INSTALLER.has_gpu(tmp_path)
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    assert INSTALLER.has_gpu(tmp_path)
