"""Inference engines: one per file behind `ENGINES`. Adding one is a new file and a row here."""

from edgeprune.runtime.engines.engine import Engine
from edgeprune.runtime.engines.fp16_rounded import Fp16Rounded
from edgeprune.runtime.engines.onnxruntime import CUDA, TENSORRT, OnnxRuntime
from edgeprune.runtime.engines.openvino import OpenVino
from edgeprune.runtime.engines.session import Graph, Session
from edgeprune.runtime.engines.tensorrt import TensorRt

__all__ = ["ENGINES", "Engine", "Graph", "Session"]

# Each is imported without the library behind it, which is loaded when a graph is opened.
ENGINES: dict[str, Engine] = {
    "onnxruntime": OnnxRuntime(),
    "openvino": OpenVino("f32"),
    "openvino-bf16": OpenVino("bf16"),
    "tensorrt": TensorRt(),
    "onnxruntime-cuda": OnnxRuntime("onnxruntime-cuda", CUDA),
    "onnxruntime-fp16": Fp16Rounded(),
    "onnxruntime-tensorrt": OnnxRuntime("onnxruntime-tensorrt", TENSORRT),
}
