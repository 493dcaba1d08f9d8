"""Lack of memory: said as such by every engine, and a family of graphs that is kept within it."""

import importlib
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES, cuda, onnxruntime, openvino
from edgeprune.runtime.engines.cuda import Cuda
from edgeprune.runtime.engines.engine import import_library
from edgeprune.runtime.engines.memory import fitting, free_host_bytes, lacks_memory, no_memory
from tests import bundles
from tests.runtime.engines import fake_tensorrt
from tests.runtime.engines.fake_cuda import FakeCudart
from tests.runtime.engines.fake_tensorrt import NO_MEMORY
from tests.runtime.engines.jetson import ENGINE, Jetson, graphs, prepared

# as ONNX Runtime 1.31 and OpenVINO 2026.4 say it under a limit of address space
SAID = [
    "[ONNXRuntimeError] : 1 : FAIL : Load model from fp32-trunk.onnx failed:std::bad_alloc",
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Exception during initialization: std::bad_alloc",
    "Exception from src/inference/src/cpp/core.cpp:132:\nCheck 'false' failed:\nLoading input model\nstd::bad_alloc\n\n",
    "Cannot load library libopenvino_intel_cpu_plugin.so: failed to map segment from shared object",
]


@pytest.mark.parametrize("said", SAID)
def test_ways_to_say_it(said: str) -> None:
    assert lacks_memory(RuntimeError(said)) and lacks_memory(MemoryError())
    assert not lacks_memory(RuntimeError("Protobuf parsing failed"))


def test_what_is_said() -> None:
    error = no_memory("TensorRT can't load x.plan", 120_000_000, 45_000_000)
    assert error.exit_code == 3
    assert str(error).startswith(
        "TensorRT can't load x.plan: out of memory (120 MB needed, 45 MB free); stop other programs"
    )
    assert str(no_memory("x")).startswith("x: out of memory; stop")


def test_free_memory_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    assert free_host_bytes(tmp_path) is None
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 8000000 kB\nMemFree: 1000 kB\nMemAvailable:   2000 kB\n")
    assert free_host_bytes(tmp_path) == 2000 * 1024
    (tmp_path / "proc" / "meminfo").write_text("MemAvailable: lots kB\n")
    assert free_host_bytes(tmp_path) is None


def test_a_limit_on_the_process_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a shell or an init system sets it: the host may have gigabytes left."""
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "meminfo").write_text("MemAvailable: 20000000 kB\n")
    (tmp_path / "proc" / "self" / "statm").write_text("100 50 20 1 0 30 0\n")
    page = resource.getpagesize()
    for limit, free in ((resource.RLIM_INFINITY, 20_000_000 * 1024), (150 * page, 50 * page), (90 * page, 0)):
        monkeypatch.setattr(resource, "getrlimit", lambda what, limit=limit: (limit, resource.RLIM_INFINITY))
        assert free_host_bytes(tmp_path) == free


def test_a_library_that_there_is_no_memory_to_load_is_not_told_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> None:
        raise ImportError(f"{name}.so: failed to map segment from shared object")

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(RunError, match=r"ONNX Runtime can't be loaded: out of memory"):
        import_library("onnxruntime", "ONNX Runtime", "pip install onnxruntime")


def test_a_gpu_that_shares_the_hosts_memory_counts_its_page_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Jetson's, where `cudaMemGetInfo` leaves it out; never more than there is in all."""
    cudart = FakeCudart(memory=1000)
    monkeypatch.setattr(cuda, "free_host_bytes", lambda: 700)
    gpu = Cuda(cudart)
    gpu.allocate(600)
    assert gpu.free_bytes() == 400
    cudart.attributes[18] = 1
    assert gpu.free_bytes() == 700
    monkeypatch.setattr(cuda, "free_host_bytes", lambda: 7000)
    assert gpu.free_bytes() == 1000


# ------------------------------------------------------------------------------------------------ engines


def test_onnxruntime_and_openvino_say_memory_and_not_the_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError(SAID[0])

    monkeypatch.setattr(onnxruntime.load_onnxruntime(), "InferenceSession", fails)
    with pytest.raises(
        RunError, match=r"onnxruntime .* can't open .*fp32-trunk.onnx: out of memory \(\S+ MB free\); stop"
    ):
        ENGINES["onnxruntime"].open(bundle, "fp32")
    library = pytest.importorskip("openvino", reason="needs openvino: pip install openvino")

    class Core(library.Core):  # type: ignore[misc, name-defined]
        compile_model = fails

    monkeypatch.setattr(openvino.load_openvino(), "Core", Core)
    with pytest.raises(RunError, match=r"openvino .* can't open .*fp32-trunk.onnx: out of memory"):
        ENGINES["openvino"].open(bundle, "fp32")


def test_a_run_that_runs_out_of_memory_is_one_line(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Activations are allocated by the first run."""

    class Full:
        def run_with_iobinding(self, binding: object) -> None:
            raise RuntimeError(
                "BFCArena::AllocateRawInternal Failed to allocate memory for requested buffer of size 4096"
            )

    session = ENGINES["onnxruntime"].open(bundle, "fp32")
    monkeypatch.setattr(session._trunk, "_session", Full())  # type: ignore[attr-defined]
    with pytest.raises(RunError, match=r"onnxruntime can't run .*fp32-trunk.onnx: out of memory \(\S+ MB free\)"):
        session.start(bundles.frame_with(1))


@pytest.mark.slow
def test_onnxruntime_under_a_real_limit(bundle: Bundle, tmp_path: Path) -> None:
    """100 MB of weights, and 60 MB of address space left for them."""
    script = f"""
import resource
import numpy as np, onnx
from onnx import TensorProto, helper, numpy_helper
from pathlib import Path
from edgeprune.runtime.engines.onnxruntime import load_onnxruntime, open_session
load_onnxruntime()
path = Path({str(tmp_path)!r}) / "large.onnx"
weights = numpy_helper.from_array(np.zeros((4096, 6400), np.float32), "w")
value = lambda name, side: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, side])
node = helper.make_node("MatMul", ["x", "w"], ["y"])
graph = helper.make_graph([node], "g", [value("x", 4096)], [value("y", 6400)], [weights])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
taken = next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmSize"))
resource.setrlimit(resource.RLIMIT_AS, (taken + (60 << 20), resource.RLIM_INFINITY))
open_session(path, 1)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "RunError: onnxruntime" in done.stderr and "large.onnx: out of memory" in done.stderr
    assert resource.getrlimit(resource.RLIMIT_AS)[0] == resource.RLIM_INFINITY


def test_tensorrt_says_how_much_and_what_to_do(jetson: Jetson, bundle: Bundle) -> None:
    ENGINE.prepare(graphs(bundle))
    jetson.restart(cudart=FakeCudart(memory=10))
    with pytest.raises(
        RunError, match=r"can't load .*plan: out of memory \(0 MB needed, 0 MB free\); stop other programs"
    ):
        ENGINE.open(bundle, "fp32")


def test_a_context_without_memory_says_so(jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    ENGINE.prepare(graphs(bundle))
    monkeypatch.setattr(fake_tensorrt.Engine, "no_context", True)
    with pytest.raises(RunError, match=r"can't make a context of fp32-trunk: out of memory \(1,07\d MB free\)"):
        ENGINE.open(bundle, "fp32")


def test_a_build_without_memory_says_so_and_is_not_tried_weakly(jetson: Jetson, bundle: Bundle) -> None:
    jetson.trt.not_strongly = NO_MEMORY
    [error] = ENGINE.prepare(graphs(bundle)[:1]).values()
    assert "can't build" in str(error) and "out of memory (1,074 MB free)" in str(error)
    assert "EDGEPRUNE_WORKSPACE_MB=256" in str(error) and "bundle again" not in str(error)
    assert jetson.trt.built == []


# ------------------------------------------------------------------------------------------------ the family


def test_the_full_grid_is_kept_then_the_smallest() -> None:
    sizes = {"a": 12, "b": 11, "c": 14, "full": 20}
    assert fitting(sizes, 5, 62) == ["a", "b", "c", "full"]
    assert fitting(sizes, 5, 61) == ["a", "b", "full"]
    assert fitting(sizes, 5, 47) == ["a", "full"]
    assert fitting(sizes, 5, 25) == ["full"]
    assert fitting(sizes, 5, 24) == []


def test_buckets_that_memory_does_not_hold_are_left_out(
    jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    jetson.trt.weights = 1 << 20  # each plan is a little over a megabyte
    session = prepared(bundle)
    assert ENGINE.able(bundle, "fp32") == (["quarter", "half", "full"], [])
    session.close()
    monkeypatch.setenv("EDGEPRUNE_MEMORY_MB", "4")
    names, [line] = ENGINE.able(bundle, "fp32")
    assert names == ["quarter", "full"]
    assert line == (
        "half: left out in fp32, all buckets take 4 MB together and 4 may be taken (EDGEPRUNE_MEMORY_MB, else three quarters "
        "of what is free)"
    )
    small = ENGINE.open(bundle, "fp32", names)
    small.start(bundles.frame_with(7))
    with pytest.raises(InputError, match="unknown bucket 'half'; choices: quarter, full"):
        small.finish("half")
    monkeypatch.setenv("EDGEPRUNE_MEMORY_MB", "2")
    with pytest.raises(
        RunError, match=r"trunk and bucket full in fp32 can't be opened: out of memory \(2 MB needed, 2 MB free\)"
    ):
        ENGINE.able(bundle, "fp32")


def test_unless_told_three_quarters_of_what_is_free_are_taken(jetson: Jetson, bundle: Bundle) -> None:
    jetson.trt.weights = 1 << 20
    ENGINE.prepare(graphs(bundle))
    for megabytes, names in ((6, ["quarter", "half", "full"]), (5, ["quarter", "full"]), (4, ["full"])):
        jetson.restart(cudart=FakeCudart(memory=megabytes << 20))
        assert ENGINE.able(bundle, "fp32")[0] == names
        ENGINE.open(bundle, "fp32", names)  # fits


def test_a_limit_that_is_none(jetson: Jetson, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(bundle)
    monkeypatch.setenv("EDGEPRUNE_MEMORY_MB", "lots")
    with pytest.raises(InputError, match="EDGEPRUNE_MEMORY_MB is 'lots'; expected megabytes"):
        ENGINE.able(bundle, "fp32")
