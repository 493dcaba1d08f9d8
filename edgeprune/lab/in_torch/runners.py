"""What runs one frame in PyTorch, from levels on the host to labels on the host, as in a stream. The modules are those that
graphs are exported from (`export/graphs.py`, `lab/peers/graphs.py`); MODES is how their kernels are launched.

Shapes: H W pixels of the frame.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.export.graphs import TailGraph, TrunkGraph, blank_frame
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.runtime.choose import Chooser

DIALECT = "onnxruntime"  # labels as bytes
WARM_UP = 3  # frames; torch's own advice before a capture
Step = Callable[[], Any]  # works on tensors that stay where they are, and gives such
Prepare = Callable[[Step], Step]


def as_cuda_graph(step: Step) -> Step:
    """A step as one CUDA graph: each call replays it and gives the same tensors, written again (PyTorch, "CUDA semantics",
    whole-network capture: warm up on a side stream first)."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        outputs = step()

    def replay() -> Any:
        graph.replay()
        return outputs

    return replay


def as_compiled_graph(step: Step) -> Step:
    """A step whose kernels `torch.compile` fuses, as one CUDA graph: what its mode `reduce-overhead` makes of it, in buffers
    that are our own."""
    return as_cuda_graph(torch.compile(step, dynamic=False))


GRAPH, COMPILED, EAGER = "CUDA graph", "torch.compile", "eager"
# what speed is held against comes first, then what is faster still
MODES: dict[str, Prepare] = {GRAPH: as_cuda_graph, COMPILED: as_compiled_graph, EAGER: lambda step: step}


class WholeRunner:
    """A network with no choice in the middle: a dense model, or a peer.

    Args:
        graph: a frame (H, W, 3) of levels -> labels, alone or first.
        frame_HW3: where its frames lie.
    """

    def __init__(self, graph: nn.Module, frame_HW3: Tensor, prepare: Prepare):
        self.frame_HW3 = frame_HW3
        self.step = prepare(lambda: graph(self.frame_HW3))

    def __call__(self, frame_HW3: Tensor) -> list[Tensor]:
        self.frame_HW3.copy_(frame_HW3, non_blocking=True)
        return to_host(self.step())


class FamilyRunner:
    """A model's buckets: the trunk, which they share, one scalar to the host, and the tail of the bucket that is chosen.

    Args:
        thresholds: of each decision.
    """

    def __init__(self, model: Segmenter, thresholds: Sequence[float], buckets: Sequence[Bucket], prepare: Prepare):
        self.frame_HW3 = blank_frame(model).to(model.mean.device)
        trunk = TrunkGraph(model, thresholds)
        self.trunk = prepare(lambda: trunk(self.frame_HW3))
        *self.state, _ = self.trunk()
        self.tails = {each.name: prepare(self._tail_of(model, each)) for each in buckets}

    def _tail_of(self, model: Segmenter, bucket: Bucket) -> Step:
        tail = TailGraph(model, bucket.counts, DIALECT)
        return lambda: tail(*self.state)

    def count(self, frame_HW3: Tensor) -> int:
        """Runs the trunk; how many tokens the frame asks for."""
        self.frame_HW3.copy_(frame_HW3, non_blocking=True)
        *self.state, need = self.trunk()
        return int(need.item())

    def __call__(self, frame_HW3: Tensor, choose: Chooser) -> list[Tensor]:
        return to_host(self.tails[choose(self.count(frame_HW3))]())


class DynamicRunner:
    """A bucket without CUDA graphs, whose kernels are launched one by one. The counts of a frame lie up to `spread` tokens
    under the bucket's, so that shapes change from frame to frame as they would without buckets."""

    def __init__(self, model: Segmenter, thresholds: Sequence[float], counts: Sequence[int], spread: int):
        self.model, self.counts, self.spread, self.frames = model, counts, spread, 0
        self.trunk, self.tail = TrunkGraph(model, thresholds), TailGraph(model, counts, DIALECT)

    def __call__(self, frame_HW3: Tensor) -> list[Tensor]:
        *state, need = self.trunk(frame_HW3.to(self.model.mean.device, non_blocking=True))
        need.item()
        fewer, self.frames = self.frames % self.spread, self.frames + 1
        self.tail.counts = self.model.policy.schedule.round_up([max(1, count - fewer) for count in self.counts])
        return to_host(self.tail(*state))


def to_host(outputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The outputs where a stream's consumer has them."""
    return [each.cpu() for each in ((outputs,) if isinstance(outputs, Tensor) else outputs)]
