"""The bucket family in PyTorch on a GPU: one CUDA graph for each bucket, against the dense model, and against tokens of another
count in each frame without CUDA graphs, where every kernel is launched anew: what constant shapes are worth there.

Weights are random: time depends on shapes alone. Frames come from the host and outputs go back to it, as in a stream.

Shapes: H W pixels of the frame, N tokens of the grid, D width, S scores.
"""

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.statistics import latency, ratio_by_round
from edgeprune.base.table import plain
from edgeprune.bundle.target import BucketFamily
from edgeprune.evaluate.bench import mj_per_frame
from edgeprune.export.family import place_buckets
from edgeprune.export.graphs import blank_frame, to_outputs
from edgeprune.model.checkpoint import shape_of
from edgeprune.model.segmenter import Segmenter, as_image
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.runtime.meters import Energy, Meter, measure_idle

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DEPTHS = {"tiny": 12, "small": 12, "base": 12, "large": 24}  # ViT-T, S, B (Touvron 2021), L (Dosovitskiy 2021)
GRAPH, LAUNCHED = "CUDA graph", "dynamic"
WARM_UP = 3  # frames; torch's own advice before a capture
IDLE_S = 3.0
Step = Callable[[], Any]  # works on tensors that stay where they are, and gives such


def capture_cuda(step: Step) -> tuple[Step, Any]:
    """A step as one CUDA graph: what replays it, and its outputs, which each replay writes again (PyTorch, "CUDA semantics",
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
    return graph.replay, outputs


def find_gpu() -> torch.device:
    """The GPU.

    Raises:
        InputError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise InputError(
            f"torch {torch.__version__} sees no CUDA GPU here; type `edgeprune bench` for this machine's engines, or install "
            "torch with CUDA where a GPU is"
        )
    return torch.device("cuda")


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """`torch`, its `cuda`, and `name` of the GPU."""
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "name": torch.cuda.get_device_name(device)}


class GraphRunner:
    """One bucket (None: dense) as CUDA graphs: trunk, one scalar to the host, tail."""

    def __init__(self, model: Segmenter, counts: Sequence[int] | None):
        self.frame_HW3 = blank_frame(model).to(model.mean.device)
        self.replay_tail: Step | None = None
        if counts is None:
            self.replay, self.outputs = capture_cuda(lambda: run_dense(model, self.frame_HW3))
            return
        self.replay, (state, self.need) = capture_cuda(lambda: run_trunk(model, self.frame_HW3))
        x_ND, skips, scores_S = state
        self.replay_tail, self.outputs = capture_cuda(
            lambda: to_outputs(model, model.tail(x_ND, skips, scores_S, counts), "onnxruntime")
        )

    def __call__(self, frame_HW3: Tensor) -> list[Tensor]:
        self.frame_HW3.copy_(frame_HW3, non_blocking=True)
        self.replay()
        if self.replay_tail is not None:
            self.need.item()
            self.replay_tail()
        return to_host(self.outputs)


class DynamicRunner:
    """One bucket (None: dense) without CUDA graphs: its kernels are launched one by one. With counts, those of a frame lie up
    to `spread` tokens under the bucket's, so that shapes change from frame to frame as they would without buckets."""

    def __init__(self, model: Segmenter, counts: Sequence[int] | None, spread: int):
        self.model, self.counts, self.spread, self.frames = model, counts, spread, 0

    def __call__(self, frame_HW3: Tensor) -> list[Tensor]:
        frame_HW3 = frame_HW3.to(self.model.mean.device, non_blocking=True)
        if self.counts is None:
            return to_host(run_dense(self.model, frame_HW3))
        state, need = run_trunk(self.model, frame_HW3)
        need.item()
        fewer, self.frames = self.frames % self.spread, self.frames + 1
        counts = self.model.policy.schedule.round_up([max(1, count - fewer) for count in self.counts])
        return to_host(to_outputs(self.model, self.model.tail(*state, counts), "onnxruntime"))


def to_host(outputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs where a stream's consumer has them."""
    return [each.cpu() for each in outputs]


def run_trunk(model: Segmenter, frame_HW3: Tensor) -> tuple[tuple[Tensor, list[Tensor], Tensor], Tensor]:
    """What the tail takes, and how many tokens are asked for."""
    x_ND, skips, scores_S = model.trunk(frame_HW3)
    assert scores_S is not None  # of a gated policy
    return (x_ND, skips, scores_S), model.policy.required_tokens(scores_S, [0.0] * len(model.policy.gated))


def run_dense(model: Segmenter, frame_HW3: Tensor) -> tuple[Tensor, ...]:
    """Every token through every block."""
    x_BND, skips, _ = model.embed(as_image(frame_HW3))
    for block in model.new_extras(1).around(model.blocks):
        x_BND = block(x_BND)
    return to_outputs(model, model.head(model.norm(x_BND), model.grid, skips), "onnxruntime")


@dataclass
class Timed:
    """A runner and what was measured: milliseconds by round and frame, energy by round."""

    graph: str
    mode: str
    token_share: float
    run: Callable[[Tensor], list[Tensor]]
    rounds_ms: list[list[float]] = field(default_factory=list)
    energies: list[Energy] = field(default_factory=list)

    def time_round(self, frames: Sequence[Tensor], seconds: float, meter: Meter) -> None:
        """Frames one after the other for `seconds`, all of them at least once."""
        taken: list[float] = []
        for index in range(WARM_UP):
            self.run(frames[index % len(frames)])
        meter.start()
        begin = time.perf_counter()
        while len(taken) < len(frames) or time.perf_counter() - begin < seconds:
            before = time.perf_counter()
            self.run(frames[len(taken) % len(frames)])
            taken.append(1e3 * (time.perf_counter() - before))
        self.energies.append(meter.stop())
        self.rounds_ms.append(taken)


@dataclass(frozen=True)
class Rounds:
    """How long is measured.

    Attributes:
        count: of rounds over all runners.
        frames: random levels, of a round.
        seconds: a round of each runner lasts at least so long; NVML renews its power value every 20 to 100 ms.
    """

    count: int
    frames: int
    seconds: float


def bench_in_torch(
    spec: ModelSpec,
    policy: PolicySpec,
    dtype: str,
    family: BucketFamily,
    meter: Meter,
    device: torch.device,
    rounds: Rounds,
) -> list[dict[str, Any]]:
    """Times dense and each bucket of an untrained model, as CUDA graphs and launched one by one, in interleaved rounds.

    Args:
        dtype: a key of DTYPES; of weights and tokens alike.

    Returns:
        rows of {`size`, `height`, `width`, `tokens`, `dtype`, `graph`, `mode`, `token_share`, `latency_ms` {p50, p95},
        `speedup_vs_dense` (the dense CUDA graph of the same dtype, by round), `speedup_spread`, `mj_per_frame`,
        `mj_above_idle`, `energy_status`}. Energies are None without a sensor.

    Raises:
        InputError: a policy without decisions or without a static form.
        RunError: the GPU's memory does not hold the family.
    """
    name = f"ViT {spec.size} {spec.height}x{spec.width} {dtype}"
    try:
        model = make_family(spec, policy, DTYPES[dtype], device)
        host = [random_frame(spec, index, device) for index in range(rounds.frames)]
        with torch.inference_mode():
            logger.info(f"{name}: capturing")
            timed = list(list_runners(model, family))
            idle_w = measure_idle(meter, IDLE_S)
            for number in range(rounds.count):
                first = number % len(timed)
                for each in (*timed[first:], *timed[:first]):
                    each.time_round(host, rounds.seconds, meter)
                logger.info(f"{name}: round {number + 1} of {rounds.count}")
    except torch.OutOfMemoryError as error:
        raise RunError(f"{name}: {str(error).splitlines()[0]}; leave this --vit or --size out") from error
    about = {"size": spec.size, "height": spec.height, "width": spec.width, "tokens": model.policy.tokens}
    return [about | {"dtype": dtype} | row for row in tabulate(timed, idle_w)]


def make_family(spec: ModelSpec, policy: PolicySpec, dtype: torch.dtype, device: torch.device) -> Segmenter:
    """An untrained model on the device.

    Raises:
        InputError: a policy without decisions or without a static form.
    """
    model = Segmenter(spec, make_policy(policy, shape_of(spec)))
    if not model.policy.gated:
        raise InputError(f"policy {policy.name} decides nothing, so it has no buckets; type --policy cts-svit")
    if model.policy.not_exportable:
        raise InputError(f"policy {policy.name} has no graph: {model.policy.not_exportable}")
    return model.eval().requires_grad_(False).to(device, dtype)


def random_frame(spec: ModelSpec, seed: int, device: torch.device) -> Tensor:
    """Levels (H, W, 3) on the host, in pinned memory where there is a GPU to copy to."""
    levels_HW3 = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    )
    return levels_HW3.pin_memory() if device.type == "cuda" else levels_HW3


def list_runners(model: Segmenter, family: BucketFamily) -> Iterator[Timed]:
    """Dense first, then the buckets from small to large, each in both modes."""
    yield Timed("dense", GRAPH, 1.0, GraphRunner(model, None))
    yield Timed("dense", LAUNCHED, 1.0, DynamicRunner(model, None, family.multiple))
    for bucket in place_buckets(model.policy.schedule, family, None):
        share = model.share_of_dense(bucket)
        yield Timed(bucket.name, GRAPH, share, GraphRunner(model, bucket.counts))
        yield Timed(bucket.name, LAUNCHED, share, DynamicRunner(model, bucket.counts, family.multiple))


def tabulate(timed: Sequence[Timed], idle_w: Mapping[str, float]) -> list[dict[str, Any]]:
    """A row for each; `timed` begins with the dense CUDA graph, which the others are held against."""
    rows = []
    for each in timed:
        faster = ratio_by_round(timed[0].rounds_ms, each.rounds_ms)
        count = sum(map(len, each.rounds_ms))
        rows.append(
            {
                "graph": each.graph,
                "mode": each.mode,
                "token_share": each.token_share,
                "latency_ms": plain(latency(each.rounds_ms)),
                "speedup_vs_dense": faster.median,
                "speedup_spread": list(faster.extremes),
                "mj_per_frame": mj_per_frame([energy.total_j for energy in each.energies], count),
                "mj_above_idle": mj_per_frame([energy.above_idle_j(idle_w) for energy in each.energies], count),
                "energy_status": each.energies[-1].status,
            }
        )
    return rows
