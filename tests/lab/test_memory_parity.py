"""The study of engines that remember, beside each other."""

import csv
from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.lab import memory_parity
from edgeprune.runtime.engines.memory_session import MemorySession
from tests import models
from tests.export.conftest import cpu, inputs
from tests.export.remembering import remembers

__all__ = ["cpu", "inputs", "remembers"]
CLIP = "synthetic://street?seed=900000003&speed=0"


def ask(bundle: Bundle, out: Path) -> tuple[int, list[dict[str, str]]]:
    words = [str(bundle.folder), CLIP, "--engine", "openvino", "--frames", "8", "--out", str(out)]
    result = CliRunner().invoke(memory_parity.main, words, catch_exceptions=False, standalone_mode=False)
    return result.return_value, list(csv.DictReader(out.open()))


def test_engines_that_remember_answer_alike(remembers: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    code, rows = ask(remembers, tmp_path / "rows.csv")
    assert [(row["precision"], row["bucket"]) for row in rows] == [
        (precision, bucket) for precision in ("int8", "fp32") for bucket in ("m8", "m16", f"m{models.N}")
    ]
    assert all(float(row["equal"]) > 0.99 for row in rows if row["precision"] == "fp32") and code == 0

    start = MemorySession.start

    def forgets(session: MemorySession, frame_HW3: object) -> int:
        if len(session._sets) == 2:  # OpenVINO's
            for array in session._sets[session._side].values():
                array[:] = 0
        return start(session, frame_HW3)  # type: ignore[arg-type]

    monkeypatch.setattr(MemorySession, "start", forgets)
    code, rows = ask(remembers, tmp_path / "rows.csv")
    assert code == 1 and min(float(row["equal"]) for row in rows) < 0.9


def test_a_bundle_without_memory_is_refused(cpu: Bundle) -> None:
    words = [str(cpu.folder), CLIP, "--engine", "openvino"]
    with pytest.raises(InputError, match="was built without memory"):
        CliRunner().invoke(memory_parity.main, words, catch_exceptions=False)
