"""What each step finds, on a board of fakes."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeprune.base.errors import RunError
from edgeprune.base.power_mode import PowerMode
from edgeprune.runtime.first_hour import on_board, on_engine
from edgeprune.runtime.first_hour import trtexec as module
from edgeprune.runtime.first_hour.step import Job, NotHere, Waits, run_verb
from edgeprune.runtime.meters import Energy
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.jetson import Jetson

Trtexec = Callable[..., Path]
Programs = Callable[[str, str], Path]


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few frames instead of hundreds."""
    monkeypatch.setattr(on_engine, "WARM_UP", 1)
    monkeypatch.setattr(on_engine, "FRAMES", 3)
    monkeypatch.setattr(on_engine, "OPENINGS", 4)
    monkeypatch.setattr(on_board, "SECONDS", 0.05)


# ------------------------------------------------------------------------------------------------------------ trtexec


def test_trtexec_builds_a_graph_and_its_layers_are_looked_at(job: Job, trtexec: Trtexec) -> None:
    calls = trtexec()
    graph = job.bundle.path("graphs/dense.onnx")
    found = module.build(graph, job.folder / "trtexec")
    assert (found["gpu_ms"], found["enqueue_ms"], found["build_s"]) == (1.5, 0.25, 61.5)
    assert found["layers"] == {
        "count": 3,
        "fused_attention": ["_gemm_mha_v2_myl0_6"],  # not the one whose ONNX node has `mha` in its name
        "int8_products": ["__myl_Fc_myl0_7"],
        "types": {"fp16": 2, "int8": 1},
        "kinds": {"kgen": 1, "gemm": 2},
    }
    call = calls.read_text()
    assert f"--onnx={graph} " in call and "--stronglyTyped" in call and "--noTF32" in call
    module.build(graph, job.folder / "trtexec", tf32=True)
    assert "--noTF32" not in calls.read_text().splitlines()[1]


def test_trtexecs_first_error_is_the_reason(job: Job, trtexec: Trtexec) -> None:
    trtexec(refuses="dense")
    with pytest.raises(RunError, match=r"trtexec ended with 1: \[TRT\] ModelImporter.* UNSUPPORTED_NODE: Reshapf"):
        module.build(job.bundle.path("graphs/dense.onnx"), job.folder)


def test_without_trtexec(job: Job, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(module, "PLACES", (str(tmp_path / "tensorrt"),))
    with pytest.raises(NotHere, match="trtexec is neither on PATH nor in .*; sudo apt install libnvinfer-bin"):
        module.find_trtexec()
    (tmp_path / "tensorrt").mkdir()
    (tmp_path / "tensorrt/trtexec").touch(0o755)
    assert module.find_trtexec() == str(tmp_path / "tensorrt/trtexec")


@pytest.mark.parametrize("content", ["", "{}", '{"Layers": 3}'])
def test_layers_that_cannot_be_read_are_said(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    assert "no layers that can be read in x.json" in module.read_layers(tmp_path / "x.json")["why"]


def test_layers_that_are_names_alone() -> None:
    found = module.summarise(["/head/MatMul", "_gemm_mha_v2"])
    assert found["fused_attention"] == ["_gemm_mha_v2"] and found["types"] == {"unknown": 2}


def test_one_token_more(job: Job, trtexec: Trtexec) -> None:
    trtexec()
    found = on_board.one_token_more(job)
    assert found["quotient"] == 1.0 and found["513"]["layers"]["count"] == 3
    assert onnx.load(job.folder / "attention-513.onnx").graph.name == "attention-513"


def test_cuda_graph_against_plain(job: Job, trtexec: Trtexec) -> None:
    calls = trtexec()
    found = on_board.cuda_graph(job)
    assert {name: row["gpu_ms"] for name, row in found.items()} == {
        "fp32-trunk plain": 2.5, "fp32-trunk cuda_graph": 1.5,
        "fp32-tail-quarter plain": 2.5, "fp32-tail-quarter cuda_graph": 1.5,
    }  # fmt: skip
    assert calls.read_text().count("--loadEngine=") == 4 and calls.read_text().count("--onnx=") == 2
    on_board.cuda_graph(job)
    assert calls.read_text().count("--onnx=") == 2  # engines of an earlier step are taken
    assert not list(job.folder.rglob("*.partial"))


# ------------------------------------------------------------------------------------------------------- our own engine


def test_compiling(thor: Jetson, job: Job) -> None:
    assert list(on_engine.compile_trunk(job)) == ["fp32-trunk"]
    assert list(on_engine.compile_bucket(job)) == ["fp32-tail-quarter"]
    found = on_engine.compile_quantized(job, "int8")
    assert list(found) == ["int8-trunk", "int8-tail-quarter"] and all(row["plan_mb"] > 0 for row in found.values())


def test_what_does_not_compile_says_why(thor: Jetson, job: Job) -> None:
    thor.trt.refuses = "Could not find any implementation for node x"
    with pytest.raises(RunError, match="Could not find any implementation for node x"):
        on_engine.compile_trunk(job)


def test_a_provoked_failure(thor: Jetson, job: Job) -> None:
    found = on_engine.provoke_failure(job)
    assert found["reason"] is True and "Reshapf: no importer" in found["message"]


def test_a_provoked_failure_without_a_reason(thor: Jetson, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_tensorrt.OnnxParser, "parse_from_file", lambda self, path: False)
    assert on_engine.provoke_failure(job)["reason"] is False


@pytest.mark.parametrize("tf32", [False, True])
def test_labels_against_references(
    thor: Jetson, job: Job, monkeypatch: pytest.MonkeyPatch, tf32: bool, tmp_path: Path
) -> None:
    """Engines of trtexec run in ours; one whose tail answers otherwise shows."""
    asked: list[tuple[str, bool]] = []

    def built(graph: Path, folder: Path, with_tf32: bool) -> Path:
        asked.append((graph.stem, with_tf32))
        other = graph.with_name("int8-tail-half.onnx") if tf32 and graph.stem == "int8-tail-quarter" else graph
        plan = tmp_path / f"{graph.stem}.plan"
        model = onnx.load(other).SerializeToString()
        plan.write_bytes(
            pickle.dumps({"version": thor.trt.__version__, "model": model, "memory": 1000, "profiles": []})
        )
        return plan

    monkeypatch.setenv("EDGEPRUNE_CACHE", str(tmp_path / "another"))  # put back by the test
    monkeypatch.setattr(on_engine, "built", built)
    found = on_engine.labels(job, tf32)
    assert asked == [(f"{each}-{part}", tf32) for each in ("fp32", "int8") for part in ("trunk", "tail-quarter")]
    assert found["fp32"] == {"equal": 1.0, "differ": 0, "of": 24}
    assert found["int8"]["differ"] == (24 if tf32 else 0)


def test_latency(thor: Jetson, job: Job) -> None:
    for found in (on_engine.latency(job, "int8", "quarter"), on_engine.latency_of_dense(job)):
        assert found["frames"] == 3 and 0 < found["p50_ms"] <= found["p95_ms"]


def test_memory_over_many_openings(thor: Jetson, job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    free_mb = iter(np.arange(1000.0, 0.0, -7.0))  # 7 MB are lost each time
    monkeypatch.setattr(on_engine, "_free_mb", lambda: float(next(free_mb)))
    found = on_engine.memory(job)
    assert found["lost_mb_each"] == 7.0 and found["free_mb"] == [1000, 993, 986, 979, 972]


def test_free_memory_is_read() -> None:
    assert on_engine._free_mb() > 1


# ------------------------------------------------------------------------------------------------------------ the board


def test_a_verb_that_fails_says_why() -> None:
    with pytest.raises(RunError, match=r"edgeprune inspect ended with 2: edgeprune: no bundle: nowhere is not there"):
        run_verb("inspect", "nowhere")


ROWS = [{"bucket": "half", "precision": "fp16", "p50_ms": 4.0}, {"bucket": "half", "precision": "int8", "p50_ms": 3.0}]


def test_again_waits_for_another_power_mode(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = [PowerMode(0, "15W"), PowerMode(2, "MAXN_SUPER")]
    monkeypatch.setattr(on_board, "power_modes", lambda: modes)
    monkeypatch.setattr(on_board, "current_mode", lambda: modes[1])
    called: list[Any] = []

    def run(*words: Any) -> dict[str, Any]:
        called.append(words)
        return {"rows": ROWS}

    monkeypatch.setattr(on_board, "run_verb", run)
    with pytest.raises(Waits, match="the step `compile` has not come to an end yet"):
        on_board.choose_again(job)
    before = on_board.choose(job)
    assert before == {"power_mode": "MAXN_SUPER (mode 2)", "rows": ROWS}
    later = replace(job, earlier={"compile": before | {"rows": [{**row, "p50_ms": 2.0} for row in ROWS[:1]]}})
    with pytest.raises(Waits, match="still MAXN_SUPER .mode 2.: sudo nvpmodel -m 0 sets 15W; then type the same"):
        on_board.choose_again(later)
    monkeypatch.setattr(on_board, "current_mode", lambda: modes[0])
    found = on_board.choose_again(later)
    assert called[-1][-1] == "--again" and found["now"] == "15W (mode 0)"
    assert [(row["before_ms"], row["now_ms"]) for row in found["rows"]] == [(2.0, 4.0), (None, 3.0)]


def test_camera_scaled_and_not(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(*words: Any) -> dict[str, Any]:
        asked.append(words[4])
        return {"frames": 150, "dropped": 1, "fps": 29.9, "latency_ms": {"p50": 8.0}, "machine": {}}

    monkeypatch.setattr(on_board, "run_verb", run)
    assert on_board.camera(job)["scaled"]["fps"] == 29.9
    on_board.camera(replace(job, camera="csi://1?flip=2"))
    assert asked == ["csi://0", "csi://0?scale=0", "csi://1?flip=2", "csi://1?flip=2&scale=0"]


class FakeMeter:
    name = "ina3221"

    def start(self) -> None: ...

    def watts(self) -> float:
        return 5.0

    def stop(self) -> Energy:
        return Energy("measured by INA3221", {"VDD_IN": 10.0, "VDD_SOC": 2.0}, 10.0, ("VDD_IN",), 100, 2.0, 50.0)


TEGRASTATS = """#!/bin/sh
echo "11-26-2026 06:00:00 RAM 620/7619MB (lfb 1100x4MB) EMC_FREQ 0%@2133 GR3D_FREQ 37% VDD_IN 5000mW/4900mW VDD_SOC 900mW/880mW"
echo "11-26-2026 06:00:01 RAM 620/7619MB GR3D_FREQ 37% VDD_IN 5200mW/5000mW VDD_SOC 1100mW/880mW"
exec sleep 60
"""


def test_power_beside_tegrastats(thor: Jetson, job: Job, programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("tegrastats", TEGRASTATS)
    monkeypatch.setattr(on_board, "SECONDS", 0.5)
    monkeypatch.setattr(on_board, "open_meter", lambda name: FakeMeter())
    found = on_board.power(job)
    assert found["rails"]["VDD_IN"] == {"ours_w": 5.0, "tegrastats_w": pytest.approx(5.1)}
    assert found["rails"]["VDD_SOC"] == {"ours_w": 1.0, "tegrastats_w": pytest.approx(1.0)}
    assert found["load"].startswith("idle: ")  # nothing is compiled yet
    on_engine.compile_graphs(job, on_engine._graphs(job, "fp32", "quarter"))
    assert on_board.power(job)["load"] == "frames, bucket quarter in fp32"


def test_power_without_a_sensor_or_without_tegrastats(
    job: Job, programs: Programs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(NotHere, match="no INA3221"):
        on_board.power(job)
    monkeypatch.setattr(on_board, "open_meter", lambda name: FakeMeter())
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotHere, match="tegrastats can't be run"):
        on_board.power(job)
