"""What a graph's operators cost against what this machine could do at best: a roofline per group of operators.

Read from ONNX Runtime's profile of the graph that really ran, after fusion, so a linear that did not become an integer
GEMM shows as what it is. A group's floor is the larger of multiply-adds over the GEMM peak and bytes over the bandwidth,
both measured here just before; what it takes beyond is what surgery could win.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.bundle import Bundle
from edgeprune.lab.peaks import Peaks, measure_peaks
from edgeprune.runtime.engines.bound import COUNT, FRAME
from edgeprune.runtime.engines.onnxruntime import open_session

RUNS, WARM_UP_RUNS = 20, 3

# operator -> group; what is not named here is `other`
GROUPS = {
    "QGemm": "linears int8",
    "MatMulIntegerToFloat": "linears int8",
    "DynamicQuantizeMatMul": "linears int8",
    "Gemm": "linears fp32",
    "MatMul": "linears fp32",
    "FusedGemm": "linears fp32",
    "FusedMatMul": "attention products",
    "Attention": "attention products",
    "MultiHeadAttention": "attention products",
    "Softmax": "softmax",
    "Gelu": "gelu",
    "BiasGelu": "gelu",
    "Erf": "gelu",
    "LayerNormalization": "norms",
    "SkipLayerNormalization": "norms",
    "QuantizeLinear": "quantize",
    "DequantizeLinear": "quantize",
    "Conv": "convolutions",
    "FusedConv": "convolutions",
    "Resize": "resize, argmax",
    "ArgMax": "resize, argmax",
    "TopK": "selection",
    "Gather": "selection",
    "GatherElements": "selection",
    "ScatterElements": "selection",
    "Concat": "selection",
    "Transpose": "layout",
    "Reshape": "layout",
    "Split": "layout",
    "Squeeze": "layout",
    "Unsqueeze": "layout",
    "Slice": "layout",
    "ReorderInput": "layout",
    "ReorderOutput": "layout",
    "Add": "sums",
    "Sub": "sums",
    "Mul": "sums",
    "Div": "sums",
    "Cast": "sums",
}
ITEM_BYTES = {"float": 4, "int32": 4, "int64": 8, "float16": 2, "bool": 1, "int8": 1, "uint8": 1, "double": 8}

Shape = tuple[int, ...]


@dataclass(frozen=True)
class RooflineRow:
    """One group of operators in one graph, or `all` of it, per run.

    Attributes:
        graph: `dense`, `trunk`, or a bucket: trunk and tail.
        gmacs: 1e9 multiply-adds.
        mbytes: 1e6 bytes read and written.
        floor_ms: what the machine needs at least.
        reached: the floor over the time; None where no time was taken.
    """

    graph: str
    precision: str
    group: str
    nodes: int
    ms: float
    gmacs: float
    mbytes: float
    floor_ms: float
    reached: float | None


@dataclass(frozen=True)
class Roofline:
    """The graphs of a bundle against the peaks of this machine."""

    threads: int
    peaks: Peaks
    rows: list[RooflineRow]


@dataclass
class Group:
    """Sums over the operators of one group, per run of the graph."""

    ms: float = 0.0
    macs: int = 0
    bytes: int = 0
    nodes: int = 0

    def floor_ms(self, peaks: Peaks, int8: bool) -> float:
        """What the machine needs at least: to compute or to move, whichever is longer."""
        compute_s = self.macs / 1e9 / (peaks.int8_gmacs if int8 else peaks.fp32_gmacs)
        return 1000 * max(compute_s, self.bytes / 1e9 / peaks.copy_gbytes)


def _shapes(described: Iterable[Mapping[str, list[int]]]) -> list[tuple[str, Shape]]:
    return [(kind, tuple(shape)) for entry in described for kind, shape in entry.items()]


def group_of(operator: str, inputs: list[tuple[str, Shape]]) -> str:
    """A product of two activations per head is attention's, whatever it was fused to."""
    if operator == "MatMul" and len(inputs) == 2 and all(len(shape) > 2 for _, shape in inputs):
        return "attention products"
    return GROUPS.get(operator, "other")


def count_macs(operator: str, inputs: list[tuple[str, Shape]], outputs: list[tuple[str, Shape]]) -> int:
    """Multiply-adds of one operator from the shapes in the profile (constant weights are missing there once packed)."""
    if not inputs or not outputs:
        return 0
    result = math.prod(outputs[0][1])
    group = group_of(operator, inputs)
    if group in ("linears int8", "linears fp32"):
        return result * inputs[0][1][-1] if inputs[0][1] else 0
    if group == "attention products" and len(inputs) == 2:
        # its operands may be transposed, batch axes too: M N E = sqrt of the product of all three sizes / batch
        batch = math.prod(outputs[0][1][:-2])
        left, right, out = (math.prod(shape) // batch for shape in (inputs[0][1], inputs[1][1], outputs[0][1]))
        return batch * math.isqrt(left * right * out)
    if group == "convolutions":
        return result * math.prod(inputs[1][1][1:])
    return 0


def profile(path: Path, feeds: Mapping[str, Any], threads: int) -> dict[str, Group]:
    """Groups of the graph's operators, mean over runs.

    Raises:
        InputError: ONNX Runtime is missing, or can't read the graph.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-roofline-") as folder:
        session = open_session(path, threads, Path(folder) / "profile")
        own = {tensor.name: feeds[tensor.name] for tensor in session.get_inputs()}
        for _ in range(WARM_UP_RUNS + RUNS):
            session.run(None, own)
        events = json.loads(Path(session.end_profiling()).read_text())
    return group_events(events, WARM_UP_RUNS)


def group_events(events: Iterable[Mapping[str, Any]], warm_up: int) -> dict[str, Group]:
    """The groups of a profile, per run; the first `warm_up` runs of each node are left out."""
    groups: dict[str, Group] = {}
    seen: dict[tuple[str, str], int] = {}
    runs = 0
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        arguments = event["args"]
        node = (event["name"], str(arguments["node_index"]))
        seen[node] = seen.get(node, 0) + 1
        if seen[node] <= warm_up:
            continue
        runs = max(runs, seen[node] - warm_up)
        inputs, outputs = _shapes(arguments["input_type_shape"]), _shapes(arguments["output_type_shape"])
        group = groups.setdefault(group_of(arguments["op_name"], inputs), Group())
        group.ms += event["dur"] / 1000
        group.nodes += 1
        group.macs += count_macs(arguments["op_name"], inputs, outputs)
        group.bytes += sum(ITEM_BYTES.get(kind, 4) * math.prod(shape) for kind, shape in (*inputs, *outputs))
    for group in groups.values():
        group.ms /= runs
        group.macs //= runs
        group.bytes //= runs
        group.nodes //= runs
    return groups


def roofline(bundle: Bundle, frame_HW3: np.ndarray, threads: int | None = None) -> Roofline:
    """Every graph of a bundle: the dense reference, and trunk + tail of each bucket and precision.

    Args:
        bundle: from `open_bundle`.
        frame_HW3: uint8 at the input size; what is on it decides which tokens are taken, not how many.
        threads: the target's by default.
    """
    manifest = bundle.manifest
    threads = threads or manifest.target.threads
    peaks = measure_peaks(threads)
    graphs = [("dense", "fp32", profile(bundle.path(manifest.dense), {FRAME: frame_HW3}, threads))]
    for precision, paths in manifest.graphs.items():
        trunk = bundle.path(paths.trunk)
        shared = profile(trunk, {FRAME: frame_HW3}, threads)
        graphs.append(("trunk", precision, shared))
        state = _run_once(trunk, frame_HW3, threads)
        for name, path in paths.tails.items():
            graphs.append((name, precision, _sum(shared, profile(bundle.path(path), state, threads))))
    rows = [row for graph, precision, groups in graphs for row in _rows(graph, precision, groups, peaks)]
    return Roofline(threads, peaks, rows)


def _run_once(trunk: Path, frame_HW3: np.ndarray, threads: int) -> dict[str, np.ndarray]:
    """The outputs that tails take."""
    session = open_session(trunk, threads)
    names = [tensor.name for tensor in session.get_outputs()]
    values = zip(names, session.run(None, {FRAME: frame_HW3}), strict=True)
    return {name: np.asarray(value) for name, value in values if name != COUNT}


def _sum(one: Mapping[str, Group], other: Mapping[str, Group]) -> dict[str, Group]:
    none = Group()
    summed = {}
    for name in dict.fromkeys((*one, *other)):
        a, b = one.get(name, none), other.get(name, none)
        summed[name] = Group(a.ms + b.ms, a.macs + b.macs, a.bytes + b.bytes, a.nodes + b.nodes)
    return summed


def _rows(graph: str, precision: str, groups: Mapping[str, Group], peaks: Peaks) -> list[RooflineRow]:
    """The groups of one graph, the longest first, then all of it."""
    floors = {name: group.floor_ms(peaks, name == "linears int8") for name, group in groups.items()}
    ordered = sorted(groups.items(), key=lambda item: -item[1].ms)
    whole = Group()
    for _, group in ordered:
        whole = _sum({"": whole}, {"": group})[""]
    return [
        RooflineRow(
            graph=graph,
            precision=precision,
            group=name,
            nodes=group.nodes,
            ms=group.ms,
            gmacs=group.macs / 1e9,
            mbytes=group.bytes / 1e6,
            floor_ms=floor_ms,
            reached=floor_ms / group.ms if group.ms else None,
        )
        for name, group, floor_ms in [
            *((name, group, floors[name]) for name, group in ordered),
            ("all", whole, sum(floors.values())),
        ]
    ]
