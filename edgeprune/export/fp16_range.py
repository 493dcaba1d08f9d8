"""How near the activations of an FP32 graph come to the largest number of FP16, on real frames: measured before the graph
is converted.

Shapes: F frames, H W pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

from edgeprune.base.errors import RunError
from edgeprune.export.fp16 import float_tensors

LIMIT = 65504.0
# what can grow; the others pass on, choose, or squash
WATCHED = ("Add", "Conv", "Div", "Gemm", "MatMul", "Mul", "Sub")
RESIDUAL = "residual stream"
SUFFIX = ".largest"
Row = dict[str, Any]


class RangedGraph:
    """A graph that also says the largest absolute value of every tensor that can grow."""

    def __init__(self, proto: onnx.ModelProto, threads: int):
        model = onnx.ModelProto()
        model.CopyFrom(proto)
        graph = model.graph
        floats = float_tensors(model)
        residual = {node.input[0] for node in graph.node if node.op_type == "LayerNormalization"}
        self.names: dict[str, str] = {}  # of tensors, what a person calls them
        layer = "before the first layer"
        for node in list(graph.node):
            layer = next((name for name in node.input if name.startswith("model.")), layer)
            tensor = node.output[0]
            if tensor not in floats or not (node.op_type in WATCHED or tensor in residual):
                continue
            where = layer.removeprefix("model.").removesuffix(".weight").removesuffix(".bias")
            self.names[tensor] = f"{RESIDUAL} at {where}" if tensor in residual else f"{node.op_type} at {where}"
            graph.node.append(helper.make_node("Abs", [tensor], [f"{tensor}.abs"]))
            graph.node.append(helper.make_node("ReduceMax", [f"{tensor}.abs"], [f"{tensor}{SUFFIX}"], keepdims=0))
            graph.output.append(helper.make_tensor_value_info(f"{tensor}{SUFFIX}", TensorProto.FLOAT, []))
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        self.session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]
        self.largest = dict.fromkeys(self.names, 0.0)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """All outputs by name; `largest` grows with what was seen."""
        values = self.session.run(None, {name: feeds[name] for name in self.inputs})
        outputs = dict(zip(self.outputs, values, strict=True))
        for tensor in self.names:
            self.largest[tensor] = max(self.largest[tensor], float(outputs[f"{tensor}{SUFFIX}"]))
        return outputs


def measure_range(
    trunk: onnx.ModelProto, tails: Mapping[str, onnx.ModelProto], frames_FHW3: npt.NDArray[np.uint8], threads: int
) -> list[Row]:
    """Rows of {`graph`, `where`, `largest` (absolute value over the frames), `share` (of FP16's largest)}, the largest first.

    Raises:
        RunError: one is beyond FP16.
    """
    ranged = {
        "trunk": RangedGraph(trunk, threads),
        **{name: RangedGraph(tail, threads) for name, tail in tails.items()},
    }
    for frame_HW3 in frames_FHW3:
        state = ranged["trunk"].run({"frame": frame_HW3})
        for name in tails:
            ranged[name].run(state)
    rows: list[Row] = [
        {"graph": name, "where": graph.names[tensor], "largest": largest, "share": largest / LIMIT}
        for name, graph in ranged.items()
        for tensor, largest in graph.largest.items()
    ]
    rows.sort(key=lambda row: -float(row["largest"]))
    if not rows[0]["largest"] < LIMIT:
        raise RunError(
            f"activations of {rows[0]['largest']:.4g} ({rows[0]['graph']}: {rows[0]['where']}) are beyond FP16's {LIMIT:.0f}; "
            "build for a target that computes in FP32"
        )
    return rows


def say_range(rows: Sequence[Row]) -> str:
    """One line: the largest of all, and the largest of the residual stream."""
    top = rows[0]
    residual = next((row for row in rows if row["where"].startswith(RESIDUAL)), top)
    return (
        f"largest activation {top['largest']:.1f} ({top['graph']}: {top['where']}), residual stream "
        f"{residual['largest']:.1f}: {top['share']:.2%} of FP16's {LIMIT:.0f}"
    )
