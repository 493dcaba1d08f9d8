"""Parity: each bucket in the engine against the PyTorch model it came from, on real or street frames.

Both run trunk, then tail. The graphs are the bundle's, with what their answers are decided from and the token selections as
further outputs.

Shapes: F frames, H W pixels.
"""

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor

from edgeprune.bundle import ParityRow
from edgeprune.bundle.memory import NEW
from edgeprune.export.decisions import decided_from, selecting
from edgeprune.export.graphs import GraphFamily, inside_of, named_outputs
from edgeprune.export.onnx_session import OnnxSession, Tensors
from edgeprune.model.heads.head import Raw
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.runtime.engines.engine import Outputs
from edgeprune.runtime.tasks import Agreement, find_task

logger = logging.getLogger(__name__)

Bool = npt.NDArray[np.bool_]
UInt8 = npt.NDArray[np.uint8]


@dataclass
class Answer:
    """What one side says of one frame at one bucket.

    Attributes:
        outputs: by their names.
        decided_from: of each output what it is decided from, such as the logits of labels.
        kept: what each gate or memory chose, each with its row, of which a gate has one: numbers of tokens, in a row those of a
            group of a memory.
        inside: True for the entries of the outputs inside the model's region, which alone are answers; None: all.
        sure: True for those of them that rounding alone does not change; None: all, or unknown.
    """

    outputs: Outputs
    decided_from: list[npt.NDArray[Any]]
    kept: list[set[tuple[int, int]]]
    inside: Bool | None = None
    sure: Bool | None = None


def ask_torch(model: Segmenter, buckets: Sequence[Bucket], frame_HW3: UInt8) -> Iterator[Answer]:
    """The inference form of the (fake-quantized) model, bucket after bucket."""
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(torch.from_numpy(frame_HW3))
        for bucket in buckets:
            yield answer_of(model, *model.tail_with_selections(x_ND, skips, scores_N, bucket.counts))


def answer_of(model: Segmenter, raw: Raw, selected: Sequence[Tensor]) -> Answer:
    """What PyTorch says: what its head computed, and the tokens that decisions chose."""
    sure, inside = model.head.sure(raw), inside_of(model)
    return Answer(
        named_outputs(model, raw),
        [each.numpy() for each in model.head.decided_from(raw)],
        [_places(selected_K.numpy()) for selected_K in selected],
        inside,
        inside if sure is None else both(sure.numpy(), inside),
    )


def _places(selected: npt.NDArray[Any]) -> set[tuple[int, int]]:
    """What was selected: of each row, of which there may be one, the numbers in it."""
    rows = selected.reshape(-1, selected.shape[-1]).tolist()
    return {(row, number) for row, numbers in enumerate(rows) for number in numbers}


def both(sure: Bool, inside: Bool | None) -> Bool:
    """The entries that rounding alone does not change, of those inside."""
    return sure if inside is None else sure & inside


class WatchedGraph:
    """A graph in ONNX Runtime in which what its outputs are decided from, and TopK indices, are outputs beside its own."""

    def __init__(self, proto: onnx.ModelProto, threads: int):
        watched = onnx.ModelProto()
        watched.CopyFrom(proto)
        self._inputs = list(proto.graph.input)
        self.outputs = [value.name for value in proto.graph.output if not value.name.startswith(NEW)]
        self.decided_from = [decided_from(proto, name) for name in self.outputs]
        self.kept = [node.output[1] for node in selecting(proto.graph)]
        watched.graph.output.extend(
            onnx.helper.make_empty_tensor_value_info(name)
            for name in (*self.decided_from, *self.kept)
            if name not in self.outputs
        )
        self.run = OnnxSession(watched, threads).run

    def zeros_for(self, name: str) -> npt.NDArray[Any]:
        """For an input."""
        (found,) = (value for value in self._inputs if value.name == name)
        kind = found.type.tensor_type
        return np.zeros(
            [each.dim_value for each in kind.shape.dim], onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        )

    def answer(self, found: Tensors) -> Answer:
        """What a graph that ends in the head said."""
        return Answer(
            {name: found[name] for name in self.outputs},
            [found[name] for name in self.decided_from],
            [_places(found[name]) for name in self.kept],
        )


def ask_engine(trunk: WatchedGraph, tails: Sequence[WatchedGraph], frame_HW3: UInt8) -> Iterator[Answer]:
    """The bundle's graphs: trunk once, then each tail. A policy without gates has no tails, its trunk gives the answer."""
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
    """A row per bucket: the largest error of what answers are decided from, the share that agrees where the reference is sure,
    equal selections."""
    engine_trunk = WatchedGraph(family.trunk, threads)
    engine_tails = [WatchedGraph(tail, threads) for tail in family.tails.values()]
    compared = [Comparison(model) for _ in buckets]
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
        for each, (expected, got) in zip(compared, pairs, strict=True):
            each.add(expected, got)
    if not any(each.agreed.of for each in compared):
        logger.warning(
            f"{precision}: nothing was found on {len(frames_FHW3)} frames, by PyTorch or by graphs, so no answer was compared; "
            "calibrate on frames in which there is something"
        )
    return [each.row(bucket.name, precision) for bucket, each in zip(buckets, compared, strict=True)]


class Comparison:
    """Two sides of one bucket, frame after frame.

    Attributes:
        agreed: where the reference is sure.
    """

    def __init__(self, model: Segmenter):
        self._head, self._agreement = model.head, find_task(model.spec.task).agreement
        self.agreed = Agreement(0, 0)
        self._largest, self._entries, self._frames = 0.0, 0, 0
        self._selected: list[float] = []

    def add(self, expected: Answer, got: Answer) -> None:
        self._frames += 1
        self._largest = max(self._largest, self._head.error(expected.decided_from, got.decided_from))
        self.agreed += self._agreement(expected.outputs, got.outputs, expected.sure)
        self._entries += self._agreement(expected.outputs, got.outputs, expected.inside).of
        # equal selections, as `uniform` makes them, are one node of a graph
        if len(expected.kept) == len(got.kept):
            self._selected += [
                len(ours & theirs) / len(ours) for ours, theirs in zip(expected.kept, got.kept, strict=True)
            ]

    def row(self, bucket: str, precision: str) -> ParityRow:
        return ParityRow(
            bucket=bucket,
            precision=precision,  # type: ignore[arg-type]  # the row refuses what is none
            max_abs=self._largest,
            label_agreement=self.agreed.share,
            excluded=1 - Agreement(self.agreed.of, self._entries).share,
            selection_agreement=float(np.mean(self._selected)) if self._selected else None,
            frames=self._frames,
        )
