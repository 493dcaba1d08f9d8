"""Parity of the graphs that remember, with PyTorch's form of the same, over frames in a row, each side with a state of its own.

Shapes: F frames, H W pixels.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch

from edgeprune.bundle import BucketEntry, ParityRow
from edgeprune.bundle.memory import DUE, NEW, STILL
from edgeprune.export.graphs import GraphFamily
from edgeprune.export.inputs import UInt8
from edgeprune.export.memory import MemorySpec
from edgeprune.export.onnx_session import Tensors
from edgeprune.export.parity import Answer, Comparison, WatchedGraph, answer_of
from edgeprune.model.memory import Remembering, State
from edgeprune.model.segmenter import Segmenter

NOISE = 2.0  # levels
WINDOW = 3  # of the frame each way: what changes from frame to frame is a ninth of it


def measure_memory_parity(
    spec: MemorySpec, model: Segmenter, precision: str, family: GraphFamily, frames_FHW3: UInt8, threads: int
) -> list[ParityRow]:
    """A row for each bucket but STILL: the first frame is computed whole, the others in that bucket.

    Args:
        model: what the graphs compute.
        frames_FHW3: see `with_windows`.
    """
    trunk, largest = WatchedGraph(family.trunk, threads), spec.buckets[-1].name
    whole = WatchedGraph(family.tails[largest], threads)
    rows = []
    for bucket in spec.buckets:
        if bucket.name == STILL:
            continue
        tail = whole if bucket.name == largest else WatchedGraph(family.tails[bucket.name], threads)
        ours, theirs, compared = _InTorch(spec.of(model), bucket), _InEngine(trunk, whole, tail), Comparison(model)
        for number, frame_HW3 in enumerate(with_windows(frames_FHW3)):
            due_2 = np.array([number % spec.refresh, 1], np.float32)
            compared.add(ours.answer(frame_HW3, due_2), theirs.answer(frame_HW3, due_2))
        rows.append(compared.row(bucket.name, precision))
    return rows


def with_windows(frames_FHW3: UInt8) -> Iterator[UInt8]:
    """The first frame, and then it with a window of each of the others, which moves on, as where something goes by; each with a
    sensor's noise, without which the tokens that stay are equally far from what they were, and any of them may be chosen."""
    height, width = frames_FHW3.shape[1] // WINDOW, frames_FHW3.shape[2] // WINDOW
    drawn = np.random.default_rng(0)
    yield frames_FHW3[0]
    for number, frame_HW3 in enumerate(frames_FHW3[1:]):
        row, column = divmod(number % WINDOW**2, WINDOW)
        window = (slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
        found_HW3 = frames_FHW3[0].astype(np.float32)
        found_HW3[window] = frame_HW3[window]
        found_HW3 += drawn.normal(0.0, NOISE, found_HW3.shape)
        yield found_HW3.clip(0, 255).round().astype(np.uint8)


class _InTorch:
    """PyTorch's side."""

    def __init__(self, remembering: Remembering, bucket: BucketEntry):
        self._remembering, self._bucket = remembering, bucket
        self._state: State | None = None

    def answer(self, frame_HW3: UInt8, due_2: npt.NDArray[np.float32]) -> Answer:
        remembering, state = self._remembering, self._state
        with torch.no_grad():
            width = remembering.model.pos_embed.shape[-1]
            seen_ND = torch.zeros(remembering.tokens, width) if state is None else state.seen_ND
            x_ND, skips, score_N = remembering.trunk(torch.from_numpy(frame_HW3), seen_ND, torch.from_numpy(due_2))
            if state is None or self._bucket.first == remembering.tokens:
                self._state, chosen = remembering.whole(x_ND), []
            else:
                self._state, chosen_GK = remembering.some(x_ND, score_N, state, self._bucket.first)
                chosen = [chosen_GK]
            return answer_of(remembering.model, remembering.answer(self._state, skips), chosen)


class _InEngine:
    """ONNX Runtime's side."""

    def __init__(self, trunk: WatchedGraph, whole: WatchedGraph, tail: WatchedGraph):
        self._trunk, self._next, self._tail = trunk, whole, tail
        self._state: Tensors | None = None

    def answer(self, frame_HW3: UInt8, due_2: npt.NDArray[np.float32]) -> Answer:
        state = self._state or {"seen": self._trunk.zeros_for("seen")}
        found = self._next.run({**state, **self._trunk.run({"frame": frame_HW3, DUE: due_2, **state})})
        answer, self._next = self._next.answer(found), self._tail
        self._state = {name.removeprefix(NEW): array for name, array in found.items() if name.startswith(NEW)}
        return answer
