"""Which precision a bucket runs in."""

from typing import Any

import numpy as np
import pytest

from edgeprune.bundle import MIXED, Bundle, open_bundle
from edgeprune.bundle.runtime_spec import Parity
from edgeprune.evaluate.accuracy import AccuracyRow
from edgeprune.evaluate.bench import BenchRow
from edgeprune.export import precision
from edgeprune.export.build import build
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.precision import pick
from edgeprune.runtime import precision_choice
from edgeprune.runtime.engines import ENGINES
from tests import models
from tests.export.conftest import small
from tests.results import accuracy_row, bench_result, bench_row


def timed(times: dict[str, tuple[float, float]]) -> list[BenchRow]:
    """Rows of `bench`: bucket -> milliseconds in int8 and in fp32; `trunk` has no bucket."""
    return [
        bench_row("trunk", None, each, ms) if bucket == "trunk" else bench_row("trunk+tail", bucket, each, ms)
        for bucket, both in times.items()
        for each, ms in zip(("int8", "fp32"), both, strict=True)
    ]


def scored(scores: dict[str, tuple[float, float]]) -> list[AccuracyRow]:
    """Rows of `evaluate`: bucket -> mIoU in int8 and in fp32."""
    return [
        accuracy_row(bucket, each, miou)
        for bucket, both in scores.items()
        for each, miou in zip(("int8", "fp32"), both, strict=True)
    ]


@pytest.fixture
def names(cpu: Bundle) -> list[str]:
    return [bucket.name for bucket in cpu.manifest.buckets]


def test_int8_where_it_is_faster_and_holds(cpu: Bundle, names: list[str]) -> None:
    times = dict.fromkeys(names, (10.0, 20.0)) | {"auto": (10.0, 20.0), "trunk": (4.0, 6.0)}
    choice = pick(cpu.manifest, timed(times), scored(dict.fromkeys((*names, "auto"), (0.598, 0.6))))
    rows = choice.rows("loss_points")
    assert choice.run == "int8" and choice.graphs(cpu.manifest.graphs) == cpu.manifest.graphs
    assert len(rows) == 2 * (len(names) + 1) and all(row["chosen"] == (row["precision"] == "int8") for row in rows)
    assert rows[-2]["loss_points"] == pytest.approx(0.2) and rows[-1]["loss_points"] == 0


def test_fp32_everywhere_on_a_cpu_that_is_slow_at_int8(cpu: Bundle, names: list[str]) -> None:
    times = dict.fromkeys(names, (30.0, 20.0)) | {"auto": (30.0, 20.0), "trunk": (8.0, 6.0)}
    assert pick(cpu.manifest, timed(times), []).run == "fp32"


def test_a_bucket_that_loses_too_much_in_int8_runs_in_fp32(cpu: Bundle, names: list[str]) -> None:
    times = dict.fromkeys(names, (10.0, 20.0)) | {"auto": (10.0, 20.0), "trunk": (4.0, 6.0)}
    scores = dict.fromkeys((*names, "auto"), (0.598, 0.6)) | {names[0]: (0.594, 0.6)}  # 0.6 points, 0.5 allowed
    choice = pick(cpu.manifest, timed(times), scored(scores))
    assert choice.run == MIXED
    graphs = cpu.manifest.graphs
    mixed = choice.graphs(graphs)[MIXED]
    assert mixed.trunk == graphs["int8"].trunk
    assert mixed.tails == graphs["int8"].tails | {names[0]: graphs["fp32"].tails[names[0]]}
    assert choice.tails[names[0]] == "fp32"


def test_a_tail_is_judged_without_its_trunk(cpu: Bundle, names: list[str]) -> None:
    """The trunk gains so much in INT8 that each bucket as a whole does; one tail alone is faster in FP32."""
    times = dict.fromkeys(names, (10.0, 20.0)) | {"auto": (10.0, 20.0), "trunk": (4.0, 12.0)}
    times[names[0]] = (10.0, 17.0)  # tails: 6 and 5
    choice = pick(cpu.manifest, timed(times), [])
    assert (choice.run, choice.trunk, choice.tails[names[0]]) == (MIXED, "int8", "fp32")


def test_a_mixed_bundle_runs_and_is_scored(
    cpu: Bundle, inputs: BuildInputs, exported: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    names = [bucket.name for bucket in cpu.manifest.buckets]
    times = dict.fromkeys(names, (10.0, 20.0)) | {"auto": (10.0, 20.0), "trunk": (4.0, 12.0)}
    times[names[0]] = (10.0, 17.0)
    monkeypatch.setattr(precision, "bench", lambda *_, **__: bench_result(timed(times)))
    exported()
    # `exported` gives FP32 graphs for both precisions
    update = {"precision_per_bucket": True, "parity": Parity(int8=0.9)}
    target = small("onnx-cpu", 3).model_copy(update=update)
    build(target, inputs, ["int8", "fp32"], folder)
    bundle = open_bundle(folder)
    assert bundle.default_precision() == MIXED
    assert (folder / "build.log").read_text().endswith("a run takes mixed\n")
    session = ENGINES["onnxruntime"].open(bundle, MIXED, threads=1)
    frame_HW3 = models.frames(1)[0]
    session.start(frame_HW3)
    plain = ENGINES["onnxruntime"].open(bundle, "fp32", threads=1)
    plain.start(frame_HW3)
    for name in names:
        assert np.array_equal(session.finish(name)["labels"], plain.finish(name)["labels"])


def test_timings_of_a_busy_machine_are_said(
    cpu: Bundle, names: list[str], monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """A bucket that took longer than the full grid."""
    times = {name: (10.0 + index, 40.0 + index) for index, name in enumerate(names)} | {
        "auto": (10, 20),
        "trunk": (4, 6),
    }
    for slow, lines in ((0.0, 0), (9.0, 1)):
        times[names[0]] = (10.0 + slow, 40.0)
        monkeypatch.setattr(precision, "bench", lambda *_, **__: bench_result(timed(times)))
        assert precision.choose_precisions(cpu, None).run == "int8"
        assert len(said) == lines
    assert said[0].startswith(
        f"{names[0]} in int8 took 19.0 ms and {names[1]} in int8, which is larger, 11.0: precisions"
    )
    assert said[0].endswith("type the same `edgeprune build` again when nothing else runs")


def test_a_mixture_that_does_not_answer_is_not_taken(
    cpu: Bundle, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each precision passed parity as a whole; what the mixture answers decides."""
    times = dict.fromkeys(names, (10.0, 20.0)) | {"auto": (10.0, 20.0), "trunk": (4.0, 12.0)}
    times[names[0]] = (10.0, 17.0)
    monkeypatch.setattr(precision, "bench", lambda *_, **__: bench_result(timed(times)))
    monkeypatch.setattr(precision_choice, "agreement_of", lambda *_: dict.fromkeys(names, 1.0))
    assert precision.choose_precisions(cpu, None).run == MIXED
    monkeypatch.setattr(precision_choice, "agreement_of", lambda *_: dict.fromkeys(names, 0.98))
    choice = precision.choose_precisions(cpu, None)
    assert choice.run == choice.tails[names[0]] == "int8"
