"""The study of budgets on a bundle whose graphs are tiny, so that nearly no time is late."""

from pathlib import Path

import pytest

from edgeprune.lab.budgets import QUIET, Frames, Run, busy, study_engine, summary
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


def test_every_bucket_and_every_budget_has_a_row(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny")
    frames = Frames.of(bundle, "street-small", 3)
    rows = list(study_engine(bundle, "onnxruntime", frames, budgets=2, passes=2))
    names = [bucket.name for bucket in bundle.manifest.buckets]
    assert [row.limit for row in rows[:3]] == names
    assert all(row.held is None and row.load == QUIET and row.buckets == f"{row.limit} 3" for row in rows[:3])
    budgets = rows[3:]
    assert [row.load for row in budgets] == ["alone"] * 2 + ["beside half a core"] * 2
    assert all(row.judged is not None and row.judged <= 6 for row in budgets)
    assert all(sum(int(part.split()[1]) for part in row.buckets.split(", ")) == 6 for row in budgets)
    fixed = {row.limit: row.figures["miou"] for row in rows[:3]}
    alike = [row for row in budgets if len(row.buckets.split(", ")) == 1]
    assert all(row.figures["miou"] == fixed[row.buckets.split()[0]] for row in alike)
    least, most = min(each or 0.0 for each in fixed.values()), max(each or 0.0 for each in fixed.values())
    assert all(0.5 * least < (row.figures["miou"] or 0.0) < 1.5 * most for row in budgets)
    judged = sum(row.judged or 0 for row in budgets[:2])
    alone, beside = summary(rows)
    assert alone.startswith("onnxruntime, alone: held in ") and f"% of {judged} frames, in " in alone
    assert beside.startswith("onnxruntime, beside half a core: held in ")
    assert 0 < budgets[0].tokens <= rows[2].tokens == 100


def test_frames_that_the_smallest_bucket_would_have_missed_too_are_not_judged(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny")
    run = Run(Frames.of(bundle, "street-small", 1))
    run.latency_ms, run.smallest_ms = [10.0, 40.0, 50.0, 50.0, 12.0], [8.0, 10.0, 45.0, 20.0, 9.0]
    run.buckets = ["full"] * 5
    row = run.row(bundle, "onnxruntime", QUIET, "30ms", 30.0)
    assert (row.judged, row.held, row.longest_over) == (4, 50.0, 2)


def test_the_other_process_ends_with_its_block() -> None:
    with busy(True) as process:
        assert process is not None and process.poll() is None
    assert process.returncode is not None
    with busy(False) as nothing:
        assert nothing is None
