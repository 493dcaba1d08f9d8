"""What an installed edgeprune needs is in the wheel, and the device side imports without torch."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_every_package_is_listed() -> None:
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml with the tomllib of Python 3.11")
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    found = {str(file.parent.relative_to(ROOT)).replace("/", ".") for file in (ROOT / "edgeprune").rglob("__init__.py")}
    assert listed == found | {"edgeprune.calib", "edgeprune.targets"}


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys; import edgeprune.cli; "
        "sys.exit(', '.join({'torch', 'nncf', 'onnx', 'matplotlib', 'av', 'onnxruntime'} & sys.modules.keys()) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
