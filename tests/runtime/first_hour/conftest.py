"""A board for the check list: the fakes of TensorRT and CUDA, and programs on PATH that answer as JetPack's do."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeprune.bundle import Bundle, open_bundle
from edgeprune.runtime.first_hour.step import Job
from tests import bundles
from tests.runtime.engines.jetson import thor

__all__ = ["thor"]

# trtexec's log of TensorRT 10 (NVIDIA/TensorRT, samples/trtexec; as users print it), and its layers (`--exportLayerInfo`)
TRTEXEC = """#!PYTHON
import json, sys
words = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
with open(LOG, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
def say(line):
    print("[11/26/2026-06:00:00]", line)
if REFUSES and REFUSES in words.get("onnx", ""):
    say("[E] [TRT] ModelImporter.cpp:1: ERROR: In node 7 (x): UNSUPPORTED_NODE: Reshapf")
    say("[E] Failed to parse onnx file")
    print("&&&& FAILED TensorRT.trtexec [TensorRT v100300]")
    sys.exit(1)
if "saveEngine" in words:
    open(words["saveEngine"], "wb").write(b"plan of " + words["onnx"].encode())
if "exportLayerInfo" in words:
    layers = [
        {"Name": "_gemm_mha_v2_myl0_6", "LayerType": "kgen", "Inputs": [{"Format/Datatype": "Half"}]},
        {"Name": "__myl_Fc_myl0_7", "LayerType": "gemm", "TacticName": "sm80_xmma_gemm_i8i8_i8i32_f32_tn",
         "Inputs": [{"Format/Datatype": "Int8"}], "Metadata": "[ONNX Layer: /blocks.0/mha/MatMul]"},
        {"Name": "/head/MatMul", "LayerType": "gemm", "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]},
    ]
    json.dump({"Layers": layers, "Bindings": []}, open(words["exportLayerInfo"], "w"))
    say("[I] Engine built in 61.5 sec.")
ms = 1.5 if "useCudaGraph" in words else 2.5
say("[I] Enqueue Time: min = 0.1 ms, max = 1 ms, mean = 0.5 ms, median = 0.25 ms, percentile(90%) = 1 ms")
say(f"[I] GPU Compute Time: min = 1.0 ms, max = 3.0 ms, mean = 2.0 ms, median = {ms} ms, percentile(90%) = 3 ms")
print("&&&& PASSED TensorRT.trtexec [TensorRT v100300]")
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """programs(name, content): a program first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def put(name: str, content: str) -> Path:
        path = folder / name
        path.write_text(content)
        path.chmod(0o755)
        return path

    return put


@pytest.fixture
def trtexec(programs: Callable[[str, str], Path], tmp_path: Path) -> Callable[[str], Path]:
    """trtexec(refuses): NVIDIA's tool, which refuses graphs with that in their name; gives the file that lists its calls."""

    def put(refuses: str = "") -> Path:
        log = tmp_path / "trtexec.calls"
        script = TRTEXEC.replace("PYTHON", sys.executable).replace("LOG", repr(str(log)))
        programs("trtexec", script.replace("REFUSES", repr(refuses)))
        return log

    return put


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("first-hour") / "tiny"
    bundles.write_bundle(made, engine="tensorrt", compiled_on_device=True)
    return made


@pytest.fixture
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


@pytest.fixture
def job(bundle: Bundle, tmp_path: Path) -> Job:
    (tmp_path / "work").mkdir()
    return Job(bundle, tmp_path / "work", "csi://0", {})
