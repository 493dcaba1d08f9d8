"""How near the activations of an FP32 graph come to the largest number of FP16, on real frames: measured before the graph
is converted.

Shapes: F frames, H W pixels.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from edgeprune.base.errors import RunError
from edgeprune.base.table import write_csv
from edgeprune.export.fp16 import float_tensors, to_fp16
from edgeprune.export.graphs import GraphFamily
from edgeprune.export.onnx_session import OnnxSession, Tensors

LIMIT = 65504.0
# what can grow; the others pass on, choose, or squash
WATCHED = ("Add", "Conv", "Div", "Gemm", "MatMul", "Mul", "Sub")
RESIDUAL = "residual stream"
SUFFIX = ".largest"


@dataclass(frozen=True)
class RangeRow:
    """A tensor that can grow.

    Attributes:
        graph: `trunk`, or a bucket's tail.
        where: its operator, and the layer before it.
        largest: absolute value over the frames.
        share: of FP16's largest.
    """

    graph: str
    where: str
    largest: float
    share: float


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
        self._session = OnnxSession(model, threads)
        self.largest = dict.fromkeys(self.names, 0.0)

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """All outputs by name; `largest` grows with what was seen."""
        outputs = self._session.run(feeds)
        for tensor in self.names:
            self.largest[tensor] = max(self.largest[tensor], float(outputs[f"{tensor}{SUFFIX}"]))
        return outputs


def measure_range(family: GraphFamily, frames_FHW3: npt.NDArray[np.uint8], threads: int) -> list[RangeRow]:
    """Every tensor that can grow, the largest first.

    Raises:
        RunError: one is beyond FP16.
    """
    ranged = {name: RangedGraph(proto, threads) for name, proto in family.named().items()}
    for frame_HW3 in frames_FHW3:
        state = ranged["trunk"].run({"frame": frame_HW3})
        for name in family.tails:
            ranged[name].run(state)
    rows = [
        RangeRow(name, graph.names[tensor], largest, largest / LIMIT)
        for name, graph in ranged.items()
        for tensor, largest in graph.largest.items()
    ]
    rows.sort(key=lambda row: -row.largest)
    if not rows[0].largest < LIMIT:
        raise RunError(
            f"activations of {rows[0].largest:.4g} ({rows[0].graph}: {rows[0].where}) are beyond FP16's {LIMIT:.0f}; "
            "build for a target that computes in FP32"
        )
    return rows


def say_range(rows: Sequence[RangeRow]) -> str:
    """One line: the largest of all, and the largest of the residual stream."""
    top = rows[0]
    residual = next((row for row in rows if row.where.startswith(RESIDUAL)), top)
    return (
        f"largest activation {top.largest:.1f} ({top.graph}: {top.where}), residual stream "
        f"{residual.largest:.1f}: {top.share:.2%} of FP16's {LIMIT:.0f}"
    )


def convert_to_fp16(
    family: GraphFamily, frames_FHW3: npt.NDArray[np.uint8], threads: int, table: Path, note: Callable[[str], None]
) -> GraphFamily:
    """The family in FP16, after its range was measured. `table`: the CSV that gets the rows of `measure_range`.

    Raises:
        RunError: an activation is beyond FP16.
    """
    ranges = measure_range(family, frames_FHW3, threads)
    write_csv(table, ranges)
    note(say_range(ranges))
    return family.changed(to_fp16)
