"""The graphs of a bundle's memory between frames (`model/memory.py`): a trunk that scores tokens by how far they have changed,
and a tail by bucket that computes those of the highest scores and leaves the state for the next frame.

Shapes: F frames, H W pixels of the frame, N tokens of the grid, D width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import onnx
import torch
from torch import Tensor, nn

from edgeprune.bundle import BucketEntry
from edgeprune.bundle.memory import DUE, NEW, STILL, StateTensor, computed_counts, groups_of
from edgeprune.export.family import ROWS
from edgeprune.export.graphs import (
    GraphFamily,
    blank_frame,
    channels_last,
    drop_unused_inputs,
    export_graph,
    sort_topk,
    to_outputs,
    trunk_outputs,
)
from edgeprune.export.inputs import UInt8
from edgeprune.model.memory import Remembering, State, embedding_scale, state_names
from edgeprune.model.segmenter import Segmenter

REFRESH = 128  # frames in which every token has its turn: six of 768 in each, a quarter of the smallest bucket


@dataclass(frozen=True)
class MemorySpec:
    """What of a model is built, beside its family.

    Attributes:
        scale, refresh: see `Remembering`.
        groups: of the tokens.
        buckets: the smallest first: STILL, which has no graph; the last computes all.
    """

    scale: float
    refresh: int
    groups: Literal[1, 2]
    buckets: Sequence[BucketEntry]

    def of(self, model: Segmenter) -> Remembering:
        """A model's form with memory."""
        return Remembering(model, self.scale, self.refresh)


def plan_memory(model: Segmenter, frames_FHW3: UInt8) -> MemorySpec:
    """The spec of a model.

    Args:
        frames_FHW3: of different scenes.

    Raises:
        InputError: see `Remembering`.
    """
    Remembering(model, 1.0, REFRESH)
    tokens, depth = model.grid[0] * model.grid[1], len(model.blocks)
    named = [(f"m{count}", count) for count in computed_counts(tokens, ROWS)]
    buckets = [
        BucketEntry(name=name, counts=[], first=count, token_layers=depth * count)
        for name, count in [(STILL, 0), *named]
    ]
    with torch.no_grad():
        scale = embedding_scale(model, [torch.from_numpy(frame_HW3) for frame_HW3 in frames_FHW3])
    return MemorySpec(scale, REFRESH, groups_of(model.grid), buckets)


class MemoryTrunk(nn.Module):
    """frame, state, whose turn it is -> tokens, skips, scores."""

    def __init__(self, remembering: Remembering):
        super().__init__()
        self.model, self.remembering = remembering.model, remembering

    def forward(self, frame_HW3: Tensor, seen_ND: Tensor, due_2: Tensor) -> tuple[Tensor, ...]:
        x_ND, skips, score_N = self.remembering.trunk(frame_HW3, seen_ND, due_2)
        return x_ND, *channels_last(skips), score_N


class MemoryTail(nn.Module):
    """tokens, skips, scores, state -> the task's outputs and the new state; without a state at all tokens."""

    def __init__(self, remembering: Remembering, count: int, dialect: str):
        super().__init__()
        self.model, self.remembering, self.count, self.dialect = remembering.model, remembering, count, dialect
        self.skips = len(remembering.model.stem.skip_channels)

    def forward(self, x_ND: Tensor, *given: Tensor) -> tuple[Tensor, ...]:
        skips = [skip_1HWC.permute(0, 3, 1, 2) for skip_1HWC in given[: self.skips]]
        scores_N, *state = given[self.skips :]
        if state:
            found, _ = self.remembering.some(x_ND, scores_N, State.of(state), self.count)
        else:
            found = self.remembering.whole(x_ND)
        outputs = to_outputs(self.model, self.remembering.answer(found, skips), self.dialect)
        return *outputs, *(each + 0 if each is x_ND else each for each in found.tensors())


def export_memory(spec: MemorySpec, model: Segmenter, dialect: str) -> GraphFamily:
    """Trunk and tails. A tail's outputs are the head's, and of each tensor of the state `new_` and its name."""
    remembering = spec.of(model)
    names, given = state_names(len(model.blocks)), trunk_outputs(model)
    frame_HW3, due_2 = blank_frame(model), torch.zeros(2)
    with torch.no_grad():
        seen_ND = torch.zeros(remembering.tokens, model.pos_embed.shape[-1])
        x_ND, skips, scores_N = remembering.trunk(frame_HW3, seen_ND, due_2)
        # one tensor that is given twice would be one input
        state = [each.clone() for each in remembering.whole(x_ND).tensors()]
    trunk = export_graph(MemoryTrunk(remembering), (frame_HW3, seen_ND, due_2), ["frame", "seen", DUE], given)
    tails: dict[str, onnx.ModelProto] = {}
    outputs = [*model.head.outputs, *(f"{NEW}{name}" for name in names)]
    for bucket in spec.buckets:
        if bucket.name == STILL:
            continue
        read = [] if bucket.first == remembering.tokens else names
        inputs = (x_ND, *channels_last(skips), scores_N, *(state if read else []))
        graph = MemoryTail(remembering, bucket.first, dialect)
        tails[bucket.name] = proto = export_graph(graph, inputs, [*given, *read], outputs)
        drop_unused_inputs(proto)
        sort_topk(proto, dialect)
    return GraphFamily(trunk, tails)


def memory_rules(rules: Sequence[str]) -> list[str]:
    """Those of a target's lint that these graphs are held to. A tail replaces rows of what is kept by ScatterND, once for each
    tensor: ONNX Runtime writes these rows alone where the tensor is its own output, and a Gather over old and new ones writes
    all (docs/memory.md)."""
    return [rule for rule in rules if rule != "no-scatternd"]


def state_of(family: GraphFamily) -> list[StateTensor]:
    """What the graphs read of the frame before."""
    types = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
    smallest = next(iter(family.tails.values()))
    names = {value.name.removeprefix(NEW) for value in smallest.graph.output if value.name.startswith(NEW)}
    return [
        StateTensor(
            name=value.name,
            shape=[each.dim_value for each in value.type.tensor_type.shape.dim],
            type=types[value.type.tensor_type.elem_type],  # type: ignore[arg-type]  # the row refuses what is none
        )
        for value in smallest.graph.input
        if value.name in names
    ]
