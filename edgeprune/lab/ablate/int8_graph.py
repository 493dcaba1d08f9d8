"""PTQ by NNCF's algorithms, scored as a graph in ONNX Runtime: they work on graphs, not on the PyTorch model.

Shapes: B frames, G decisions, H W pixels.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from edgeprune.base.errors import choose
from edgeprune.data import Samples, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks import METRICS
from edgeprune.export.graphs import export_bucket
from edgeprune.export.parity import WatchedGraph
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.nncf_ptq import quantize_linears_of_graph
from edgeprune.train.tasks import TASKS

THREADS = 2
UInt8 = npt.NDArray[np.uint8]
NNCF = {"NNCF PTQ: bias correction": False, "NNCF PTQ: smoothing, bias correction": True}


@dataclass
class GraphScore:
    """`score`: the figure of the model's task, 0 to 1. `kept_BG`: the tokens that each decision kept, frame by frame; empty
    where decisions are no choice of tokens to keep (merging), or some make none (every token stays)."""

    score: float
    kept_BG: list[list[set[tuple[int, int]]]]


def score_nncf(
    model: Segmenter,
    data_set: DataSet,
    samples: Samples,
    frames: int | None,
    compared_BHW3: UInt8,
    calibration_FHW3: UInt8,
) -> tuple[GraphScore, dict[str, GraphScore]]:
    """A float model at its target counts, as a graph: in float, and in INT8 by each of NNCF's ways.

    Args:
        frames: so many are scored, evenly spread; None: all.
        compared_BHW3: frames whose selections are kept.
        calibration_FHW3: frames that PTQ sees.
    """
    schedule = model.policy.schedule
    proto = export_bucket(model, Bucket("target", schedule.target_counts), "onnxruntime")

    def scored(graph: onnx.ModelProto) -> GraphScore:
        watched = WatchedGraph(graph, THREADS)
        score = _score(watched, model, data_set, samples, frames)
        kept_BG = [watched.answer(watched.run({"frame": frame_HW3})).kept for frame_HW3 in compared_BHW3]
        if schedule.merging or any(len(kept_G) != len(schedule.gated) for kept_G in kept_BG):
            kept_BG = []
        return GraphScore(score, kept_BG)

    quantized = {name: quantize_linears_of_graph(proto, calibration_FHW3, smooth) for name, smooth in NNCF.items()}
    return scored(proto), {name: scored(graph) for name, graph in quantized.items()}


def _score(graph: WatchedGraph, model: Segmenter, data_set: DataSet, samples: Samples, frames: int | None) -> float:
    """What the graph of a model scores, by the figure of the model's task."""
    preprocess, task = Preprocess.of(model.spec), model.spec.task
    scores = choose(TASKS, task, "task").scores(preprocess, data_set)
    for index in spread(len(samples), frames):
        sample = samples[index]
        scores.add(graph.run({"frame": preprocess.fit(sample.image_HW3)}), sample)
    return float(scores.result()[METRICS[task].figure])


def agreement_by_gate(one: GraphScore, other: GraphScore) -> list[float]:
    """Mean share of the tokens of `one` that `other` kept too, per decision."""
    shares_BG = [
        [len(ours & theirs) / len(ours) for ours, theirs in zip(ours_G, theirs_G, strict=True)]
        for ours_G, theirs_G in zip(one.kept_BG, other.kept_BG, strict=True)
    ]
    return [float(share) for share in np.mean(shares_BG, axis=0)] if shares_BG and shares_BG[0] else []
