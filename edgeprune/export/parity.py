"""Parity: each bucket in the engine against the PyTorch model it came from, on real or street frames.

Both run trunk, then tail. The graphs are the bundle's, with the logits and the token selections as further outputs.

Shapes: F frames, H W pixels (of the label map, for logits and labels), K classes, N tokens.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch

from edgeprune.bundle import ParityRow
from edgeprune.export.graphs import GraphFamily
from edgeprune.export.onnx_session import OnnxSession, Tensors
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter

logger = logging.getLogger(__name__)

MARGIN = 1e-3  # two best logits of a pixel closer than this may swap by rounding alone
UInt8 = npt.NDArray[np.uint8]


@dataclass
class Answer:
    """What one side says of one frame at one bucket: labels (H, W), logits (K, H, W), the tokens each gate kept."""

    labels_HW: UInt8
    logits_KHW: npt.NDArray[np.float32]
    kept: list[set[int]]


def ask_torch(model: Segmenter, buckets: Sequence[Bucket], frame_HW3: UInt8) -> Iterator[Answer]:
    """The inference form of the (fake-quantized) model, bucket after bucket."""
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(torch.from_numpy(frame_HW3))
        for bucket in buckets:
            logits_1KHW, selected = model.tail_with_selections(x_ND, skips, scores_N, bucket.counts)
            kept = [set(selected_K.tolist()) for selected_K in selected]
            yield Answer(logits_1KHW.argmax(dim=1)[0].to(torch.uint8).numpy(), logits_1KHW[0].numpy(), kept)


class WatchedGraph:
    """A graph in ONNX Runtime whose logits and TopK indices are outputs beside its own."""

    def __init__(self, proto: onnx.ModelProto, threads: int):
        watched = onnx.ModelProto()
        watched.CopyFrom(proto)
        # the labels' is the last: merging methods have others, which find partners
        self.logits = [node.input[0] for node in watched.graph.node if node.op_type == "ArgMax"][-1:]
        self.kept = [node.output[1] for node in watched.graph.node if node.op_type == "TopK"]
        watched.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name) for name in (*self.logits, *self.kept)
        )
        self.run = OnnxSession(watched, threads).run

    def answer(self, outputs: Tensors) -> Answer:
        """The outputs of a graph that ends in labels."""
        kept = [set(outputs[name].tolist()) for name in self.kept]
        return Answer(np.asarray(outputs["labels"]), np.asarray(outputs[self.logits[0]])[0], kept)


def ask_engine(trunk: WatchedGraph, tails: Sequence[WatchedGraph], frame_HW3: UInt8) -> Iterator[Answer]:
    """The bundle's graphs: trunk once, then each tail. A policy without gates has no tails, its trunk gives labels."""
    state = trunk.run({"frame": frame_HW3})
    if not tails:
        yield trunk.answer(state)
    for tail in tails:
        yield tail.answer(tail.run(state))


def measure_parity(
    model: Segmenter,
    buckets: Sequence[Bucket],
    precision: str,
    family: GraphFamily,
    frames_FHW3: UInt8,
    threads: int,
) -> list[ParityRow]:
    """A row per bucket: largest logit error, share of equal labels where the reference is sure, equal selections.

    Args:
    """
    engine_trunk = WatchedGraph(family.trunk, threads)
    engine_tails = [WatchedGraph(tail, threads) for tail in family.tails.values()]
    max_abs = [0.0] * len(buckets)
    equal, sure, pixels = ([0] * len(buckets) for _ in range(3))
    selected: list[list[float]] = [[] for _ in buckets]
    begin = time.monotonic()
    for done, frame_HW3 in enumerate(frames_FHW3):
        if done == 1:
            left_s = (len(frames_FHW3) - 1) * (time.monotonic() - begin)
            logger.info(
                f"{precision}: {len(buckets)} buckets against PyTorch on {len(frames_FHW3)} frames, about {left_s:.0f} s"
            )
        pairs = zip(
            ask_torch(model, buckets, frame_HW3), ask_engine(engine_trunk, engine_tails, frame_HW3), strict=True
        )
        for index, (expected, got) in enumerate(pairs):
            best_2HW = np.partition(expected.logits_KHW, -2, axis=0)[-2:]
            sure_HW = best_2HW[1] - best_2HW[0] > MARGIN
            max_abs[index] = max(max_abs[index], float(np.abs(expected.logits_KHW - got.logits_KHW).max()))
            equal[index] += int((expected.labels_HW == got.labels_HW)[sure_HW].sum())
            sure[index] += int(sure_HW.sum())
            pixels[index] += sure_HW.size
            # equal selections, as `uniform` makes them, are one node of a graph
            if len(expected.kept) == len(got.kept):
                selected[index] += [
                    len(ours & theirs) / len(ours) for ours, theirs in zip(expected.kept, got.kept, strict=True)
                ]
    return [
        ParityRow(
            bucket=bucket.name,
            precision=precision,
            max_abs=max_abs[index],
            label_agreement=equal[index] / max(1, sure[index]),
            excluded=1 - sure[index] / pixels[index],
            selection_agreement=float(np.mean(selected[index])) if selected[index] else None,
            frames=len(frames_FHW3),
        )
        for index, bucket in enumerate(buckets)
    ]
