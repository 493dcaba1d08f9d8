"""Graphs side by side, in real processes; what is asserted of times is arithmetic, not speed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.table import plain
from edgeprune.bundle import MANIFEST, Bundle
from edgeprune.bundle.inspect import inspect
from edgeprune.evaluate import bench as module
from edgeprune.evaluate.accuracy import AccuracyRow
from edgeprune.evaluate.bench import bench, bench_frames, row_of, with_accuracy
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.evaluate.timing import Entry
from edgeprune.evaluate.worker import Job, open_job, time_round
from edgeprune.runtime.meters import Energy, open_meter
from tests import bundles
from tests.results import accuracy_row

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("bench") / "tiny", precisions=("int8",))


class OneJoule:
    """1 J for every measurement."""

    name = "one"

    def start(self) -> None:
        pass

    def watts(self) -> float:
        return 1.0

    def stop(self) -> Energy:
        return Energy("measured by a fake", {"IN": 1.0}, 1.0, ("IN",), 2, 1.0, None)


def test_every_graph_in_a_process_of_its_own(bundle: Bundle, said: list[str]) -> None:
    timed = bench(bundle, 2, OneJoule(), GraphSelection(threads=1), frames=4)
    scored = AccuracyRow(
        "half", "int8", "onnxruntime", 1, 1.0, {"miou": 0.7, "boundary_f": 0.6, "small_things_miou": 0.2}
    )
    result = with_accuracy(timed, [scored])
    rows = {(row.graph, row.bucket): row for row in result.rows}
    buckets = [("trunk+tail", name) for name in (*bundles.BUCKETS, "auto")]
    assert list(rows) == [("dense", "dense"), ("stem+head", None), *buckets, ("trunk", None)]
    assert (result.threads, result.rounds, result.frames, said[-1]) == (1, 2, 4, "round 2 of 2")
    assert result.stem_head_share > 0 and result.energy_status == "measured by a fake"
    for row in rows.values():
        assert 0 < row.latency_ms.p50 <= row.latency_ms.p95
        assert row.speedup_spread.least <= row.speedup_vs_dense_fp32 <= row.speedup_spread.most
        assert row.mj_per_frame == 250
        assert 30 < (row.peak_mb or 0) < 1000  # Python, numpy and the engine at least; the graphs are tiny
    assert rows["dense", "dense"].speedup_vs_dense_fp32 == 1
    half, auto = rows["trunk+tail", "half"], rows["trunk+tail", "auto"]
    assert half.figures == {"miou": 0.7, "boundary_f": 0.6, "small_things_miou": 0.2}
    assert auto.figures == dict.fromkeys(half.figures)
    assert sum(rows["trunk+tail", "auto"].buckets.values()) == 4
    json.dumps(plain(result), allow_nan=False)


def test_a_worker_says_that_a_graph_takes_other_frames(bundle: Bundle, tmp_path: Path) -> None:
    frames = tmp_path / "frames.npy"
    np.save(frames, np.stack([bundles.frame_with(0)[:, :1]]))
    job = Job("graph", "onnxruntime", 1, str(frames), graph=str(bundle.path("graphs/dense.onnx")))
    entry = Entry("baseline", "theirs", job)
    entry.start()
    entry.wait_until_warm()
    with pytest.raises(InputError, match=rf"takes frames of {bundles.H}x{bundles.W}"):
        entry.time_round(open_meter("none"))
    entry.close()


def test_peak_memory_is_the_graphs_own_not_that_of_the_process_that_started_it(bundle: Bundle) -> None:
    held = np.ones(400_000_000, np.uint8)
    rows = bench(bundle, 1, OneJoule(), GraphSelection(["int8"], threads=1), frames=2).rows
    assert held[-1] and all(30 < (row.peak_mb or 0) < 300 for row in rows)


def test_a_peer_is_timed_and_scored_beside_the_bundle(bundle: Bundle, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(bundle.path("graphs/dense.onnx").read_bytes())
    timed = bench(bundle, 1, OneJoule(), GraphSelection(["int8"], [theirs], threads=1), frames=2)
    result = with_accuracy(timed, [accuracy_row("theirs", "fp32", 0.4)])
    (row,) = [row for row in result.rows if row.graph == "baseline"]
    assert (row.bucket, row.precision, row.figures["miou"]) == ("theirs", "fp32", 0.4)  # what its operators say
    assert row.speedup_vs_dense_fp32 > 0


def test_engines_side_by_side_are_measured_against_the_first_ones_dense(bundle: Bundle) -> None:
    pytest.importorskip("openvino", reason="needs openvino: pip install openvino")
    engines = ["onnxruntime", "openvino"]
    timed = bench(bundle, 1, open_meter("none"), GraphSelection(threads=1), engines=engines, frames=2)
    scored = [accuracy_row("half", "int8", miou, name) for name, miou in zip(engines, (0.7, 0.6), strict=True)]
    result = with_accuracy(timed, scored)
    rows = {(row.engine, row.graph, row.bucket): row for row in result.rows}
    assert len(rows) == 2 * (len(bundles.BUCKETS) + 4)
    assert list(result.engines) == engines
    assert [result.engines[name]["engine"] for name in engines] == engines
    assert rows["onnxruntime", "dense", "dense"].speedup_vs_dense_fp32 == 1
    dense = {name: rows[name, "dense", "dense"].latency_ms.p50 for name in engines}
    assert rows["openvino", "dense", "dense"].speedup_vs_dense_fp32 == pytest.approx(
        dense["onnxruntime"] / dense["openvino"], rel=1e-6
    )
    assert [rows[name, "trunk+tail", "half"].figures["miou"] for name in engines] == [0.7, 0.6]


def test_unknown_figures_are_none(tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny", precisions=("fp32",), gated=False)
    result = bench(bundle, 1, open_meter("none"), GraphSelection(threads=1), frames=2)
    assert [(row.graph, row.bucket) for row in result.rows] == [
        ("dense", "dense"), ("stem+head", None), ("single", "full"),
    ]  # fmt: skip
    assert (result.rows[-1].mj_per_frame, result.rows[-1].figures["miou"]) == (None, None)
    assert result.energy_status.startswith("no energy sensor")


def test_speedup_is_a_quotient_within_the_round() -> None:
    job = Job("graph", "onnxruntime", 1, "")
    dense = Entry("dense", "dense", job, rounds_ms=[[10, 12, 90], [100, 120, 130], [11, 11, 11]])
    entry = Entry("trunk+tail", "half", job, rounds_ms=[[4, 4, 4], [40, 30, 60], [5, 5.5, 6]])
    row = row_of(entry, dense)
    assert (row.speedup_vs_dense_fp32, row.speedup_spread) == (3, (2, 3))
    assert row.latency_ms.p50 == 5.5


def test_auto_runs_the_bucket_that_a_run_would_choose(bundle: Bundle) -> None:
    frames_FHW3 = np.stack([bundles.frame_with(bright, seed=bright) for bright in (0, 6, 7, 12, 13, 20)])
    seen = {"bundle": str(bundle.folder), "manifest": str(bundle.path(MANIFEST))}
    timed, description = open_job(Job("auto", "onnxruntime", 1, "", **seen, precision="int8"))
    done = time_round(timed, frames_FHW3)
    assert done.buckets == {"quarter": 2, "half": 2, "full": 2}
    assert len(done.ms) == 6 and min(done.ms) > 0
    assert description["provider"] == "CPUExecutionProvider"


def test_a_worker_that_refuses_and_one_that_dies(bundle: Bundle, tmp_path: Path) -> None:
    frames = tmp_path / "frames.npy"
    np.save(frames, np.stack([bundles.frame_with(0)]))
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    entry = Entry("dense", "dense", Job("graph", "onnxruntime", 1, str(frames), graph=str(broken)))
    entry.start()
    with pytest.raises(InputError, match=r"can't read .*broken\.onnx"):
        entry.wait_until_warm()
    entry.close()

    entry = Entry(
        "dense", "dense", Job("graph", "onnxruntime", 1, str(frames), graph=str(bundle.path("graphs/dense.onnx")))
    )
    entry.start()
    entry.wait_until_warm()
    assert entry._process is not None
    os.kill(entry._process.pid, signal.SIGKILL)
    with pytest.raises(RunError, match="the process that times dense dense fp32 died"):
        entry.time_round(open_meter("none"))
    entry.close()
    assert entry._process.poll() is not None


def test_a_worker_whose_parent_is_gone_ends_without_a_word(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    job = Job("graph", "onnxruntime", 1, str(tmp_path / "frames.npy"), graph=str(broken))
    given = [sys.executable, "-m", "edgeprune.evaluate.worker", json.dumps(dataclasses.asdict(job))]
    with subprocess.Popen(given, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as worker:
        assert worker.stdout and worker.stderr
        worker.stdout.close()
        assert worker.stderr.read() == b"" and worker.wait() == 0


def test_frames_of_a_data_set_are_spread_over_it(bundle: Bundle) -> None:
    from tests.evaluate.test_accuracy import Frames

    source, frames_FHW3 = bench_frames(bundle, Frames(9), 3)
    assert source == "3 frames, frame-0 to frame-8"
    assert frames_FHW3.shape == (3, bundles.H, bundles.W, 3) and frames_FHW3.dtype == np.uint8
    assert bundles.expected_count(frames_FHW3[1]) == 12
    source, frames_FHW3 = bench_frames(bundle, None, 2)
    assert str(module.STREET_SEED) in source and frames_FHW3.shape == (2, bundles.H, bundles.W, 3)


def test_inspect(bundle: Bundle) -> None:
    found = inspect(bundle)
    json.dumps(found, allow_nan=False)
    assert found["input"] == [bundles.H, bundles.W] and found["labels"] == [bundles.ROWS, bundles.COLUMNS]
    assert [bucket["token_share"] for bucket in found["buckets"]] == [0.4375, 0.625, 1.0]
    assert [graph["graph"] for graph in found["graphs"]] == [
        "trunk", "tail quarter", "tail half", "tail full", "dense", "stem+head",
    ]  # fmt: skip
    assert found["bytes"] == sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file())
    assert found["parity"][0]["label_agreement"] == 1.0 and found["target"]["name"] == "test"
