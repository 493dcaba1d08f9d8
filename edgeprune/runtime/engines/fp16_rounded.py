"""FP16 as a device rounds it, on the CPU: for accuracy, not for speed.

ONNX Runtime has few FP16 kernels for a CPU. It runs an FP16 graph in FP32 and takes out the casts between its operators, so
its answers are nearly those of FP32: 0.3 + 2048 - 2048 gives 0.3 where FP16 gives 0 (measured, 1.31, optimized or not, and
with casts of the graph's own between). It leaves alone what only passes values on, in their own type: so behind every
operator that computes an FP16 tensor a dimension is put in and taken out again. Sums within an operator stay in FP32, as
tensor cores have them.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, RunError
from edgeprune.runtime.engines.engine import import_library
from edgeprune.runtime.engines.memory import saying_memory
from edgeprune.runtime.engines.onnxruntime import CPU, OnnxRuntime, OrtBound, load_onnxruntime, open_session

NAME = "onnxruntime-fp16"
OPSET = 17  # of the probe
REMEDY = "pip install another version of onnxruntime, or report it"
# these hand values on as they are
EXACT = {
    "Concat", "Expand", "Flatten", "Gather", "GatherElements", "Identity", "Reshape", "ScatterElements", "Slice", "Split",
    "Squeeze", "Tile", "TopK", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def load_onnx() -> Any:
    """The library that rewrites graphs.

    Raises:
        InputError: it isn't installed.
    """
    return import_library("onnx", "onnx", "pip install onnx")


def round_fp16(model: Any) -> Any:
    """A copy of an `onnx.ModelProto` whose FP16 tensors are rounded to FP16 by ONNX Runtime's CPU provider too; the model
    itself where it has none.

    Raises:
        InputError: shape inference does not find a tensor's type.
    """
    onnx = load_onnx()
    half = onnx.TensorProto.FLOAT16
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.output, *graph.value_info)
    halves = {value.name for value in values if value.type.tensor_type.elem_type == half}
    if not halves:
        return model
    typed = {value.name for value in values}
    for node in graph.node:
        for name in node.output:
            if name and name not in typed:
                raise InputError(
                    f"the type of {name!r} ({node.op_type}) is not known, so it would not be rounded; {REMEDY}"
                )
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    first = "fp16_rounded.first"
    rounded.graph.initializer.append(onnx.helper.make_tensor(first, onnx.TensorProto.INT64, [1], [0]))
    nodes = []
    for node in rounded.graph.node:
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in halves and node.op_type not in EXACT:
                computed, deeper = f"{name}.computed", f"{name}.deeper"
                node.output[index] = computed
                nodes.append(onnx.helper.make_node("Unsqueeze", [computed, first], [deeper]))
                nodes.append(onnx.helper.make_node("Squeeze", [deeper, first], [name]))
    del rounded.graph.node[:], rounded.graph.value_info[:]
    rounded.graph.node.extend(nodes)
    return rounded


@cache
def check_rounding() -> None:
    """Refuses an ONNX Runtime that computes a rounded graph in FP32 all the same.

    Raises:
        InputError: it does.
    """
    helper, half = load_onnx().helper, load_onnx().TensorProto.FLOAT16
    nodes = [helper.make_node("Add", ["x", "big"], ["sum"]), helper.make_node("Sub", ["sum", "big"], ["y"])]
    inputs = [helper.make_tensor_value_info(name, half, [1]) for name in ("x", "big")]
    graph = helper.make_graph(nodes, "probe", inputs, [helper.make_tensor_value_info("y", half, [1])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    session = open_session(round_fp16(model).SerializeToString(), 1)
    big, small = (np.array([value], np.float16) for value in (2048, 0.3))
    [answer] = session.run(None, {"x": small, "big": big})
    if answer[0] != 0:
        raise InputError(
            f"ONNX Runtime {load_onnxruntime().__version__} does not round FP16 on this CPU (0.3 + 2048 - 2048 gives "
            f"{answer[0]}), so an answer in FP16 would be FP32's; {REMEDY}"
        )


class Fp16Rounded(OnnxRuntime):
    """ONNX Runtime on the CPU, on graphs that round as a device does."""

    def __init__(self) -> None:
        super().__init__(NAME, CPU)

    def check(self) -> None:
        super().check()
        check_rounding()

    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> OrtBound:
        check_rounding()
        onnx = load_onnx()
        try:
            with saying_memory(f"graph {path} can't be read to be rounded"):
                model = onnx.load(path)
        except RunError:
            raise
        except Exception as error:
            open_session(path, threads)  # it says what is wrong, if it finds it too
            raise InputError(f"graph {path} can't be read to be rounded ({error}); build the bundle again") from error
        with saying_memory(f"graph {path} can't be rounded"):
            rounded = round_fp16(model).SerializeToString()
        return OrtBound(self.name, self.provider, path, threads, state, rounded, written)
