"""What an installed edgeprune needs is in the wheel, and the device side imports without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.bundle.deploy import build_wheel

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_is_listed() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with the tomllib of Python 3.11")
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "edgeprune").rglob("__init__.py")}
    assert listed == found | {"edgeprune.calib", "edgeprune.targets"}


def test_the_package_alone_loads_no_library() -> None:
    done = subprocess.run(  # -S: there is none
        [sys.executable, "-S", "-c", "import edgeprune"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys; import edgeprune.cli.commands; "
        "heavy = {'torch', 'nncf', 'onnx', 'matplotlib', 'av', 'onnxruntime', 'edgeprune.street.street'}; "
        "sys.exit(', '.join(heavy & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_the_wheel_runs_in_a_bare_environment(tmp_path: Path) -> None:
    """With the run-time dependencies alone: what a device installs. The size of what comes beside numpy and ONNX Runtime is
    bounded."""
    from tests import bundles

    def call(*words: str) -> str:
        done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    wheel = build_wheel(tmp_path / "wheel")
    call(sys.executable, "-m", "venv", str(tmp_path / "bare"))
    python = str(tmp_path / "bare" / "bin" / "python")
    call(python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel))
    [site] = (tmp_path / "bare" / "lib").glob("python*/site-packages")
    ours = {"pip", "setuptools", "numpy", "numpy.libs", "onnxruntime"}
    sizes = {
        folder.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for folder in site.iterdir()
        if folder.is_dir() and folder.name not in ours
    }
    assert not {"torch", "onnx", "nncf", "cv2", "tensorrt"} & set(sizes)
    assert sum(sizes.values()) < 60e6, sorted(sizes.items(), key=lambda item: -item[1])[:12]
    bundles.write_bundle(tmp_path / "bundle")
    program = str(tmp_path / "bare" / "bin" / "edgeprune")
    assert "ONNX Runtime" in call(program, "doctor")
    said = call(
        program, "run", "--bundle", "bundle", "--camera", "synthetic://street?seed=1", "--frames", "3", "--json"
    )
    assert '"frames": 3' in said
