"""The study of pipelines: what a row says of its runs, and that a run is what is typed."""

from pathlib import Path
from typing import Any

import pytest

from edgeprune.base.errors import RunError
from edgeprune.lab.pipelining import SETTINGS, Setting, row_of, run_once, study
from edgeprune.runtime.pipeline import PIPELINES
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


def summary(fps: float, live: bool = False) -> dict[str, Any]:
    times = {"p50": 1000 / fps, "p95": 2000 / fps, "p99": None}
    return {
        "fps": fps,
        "latency_ms": times,
        "age_ms": {key: value and 2 * value for key, value in times.items()},
        "overhead": {"ms_per_frame": 0.25},
        "camera": {"live": live},
    }


def test_throughput_is_over_the_plain_loop_of_the_same_round() -> None:
    plain = [summary(fps) for fps in (10.0, 20.0, 40.0)]
    row = row_of(SETTINGS[0], "outputs", [summary(fps) for fps in (12.0, 20.0, 60.0)], plain)
    assert (row.fps, row.times, row.least, row.most) == (20.0, 1.2, 1.0, 1.5)
    assert (row.p50_ms, row.p95_ms, row.loop_ms) == (50.0, 100.0, 0.25)
    assert row.age_p50_ms is None  # nobody captured these frames
    assert row_of(SETTINGS[-1], "outputs", [summary(10.0, live=True)], [summary(10.0, live=True)]).age_p50_ms == 200.0


def test_every_pipeline_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny").folder
    [setting] = [each for each in SETTINGS if not each.video]
    rows = list(study(bundle, [setting], rounds=1, seconds=0.1))
    assert [row.pipeline for row in rows] == list(PIPELINES) and all(row.fps > 0 for row in rows)
    with pytest.raises(RunError, match=r"a run failed: .*unknown synthetic scene"):
        run_once(bundle, Setting("none", ("--camera", "synthetic://moon"), False, 1), "off", 0.1)
