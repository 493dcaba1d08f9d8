"""The bucket family in PyTorch on a GPU: one CUDA graph for each bucket, against the dense model, and against tokens of another
count in each frame without CUDA graphs, where every kernel is launched anew: what constant shapes are worth there.

Weights are random: time depends on shapes alone. `trained.py` times networks that were trained.
"""

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle.target import BucketFamily
from edgeprune.export.family import place_buckets
from edgeprune.export.graphs import DenseGraph, blank_frame
from edgeprune.export.manifest import bucket_entry
from edgeprune.lab.in_torch.gpu import fastest_inference, place, place_frame
from edgeprune.lab.in_torch.rounds import Rounds, Timed, time_in_rounds
from edgeprune.lab.in_torch.runners import DIALECT, EAGER, GRAPH, MODES, DynamicRunner, FamilyRunner, WholeRunner
from edgeprune.model.checkpoint import shape_of
from edgeprune.model.policy import TokenPolicy
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.spec import ModelSpec, PolicySpec
from edgeprune.pruning.methods import make_policy
from edgeprune.runtime.choose import fixed
from edgeprune.runtime.meters import Meter

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
DEPTHS = {"tiny": 12, "small": 12, "base": 12, "large": 24}  # ViT-T, S, B (Touvron 2021), L (Dosovitskiy 2021)
DYNAMIC = "dynamic"  # the mode of rows whose kernels are launched one by one


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
        rows of {`size`, `height`, `width`, `tokens`, `dtype`, `graph`, `mode`, `token_share`} and what `time_in_rounds`
        measures against the dense CUDA graph of the same dtype.

    Raises:
        InputError: a policy without decisions or without a static form.
        RunError: the GPU's memory does not hold the family.
    """
    name = f"ViT {spec.size} {spec.height}x{spec.width} {dtype}"
    try:
        model = make_family(spec, policy, DTYPES[dtype], device)
        frames = [random_frame(spec, index, device) for index in range(rounds.frames)]
        with fastest_inference():
            logger.info(f"{name}: capturing")
            rows = time_in_rounds(list(list_runners(model, family)), frames, rounds, meter, name)
    except torch.OutOfMemoryError as error:
        raise RunError(f"{name}: {str(error).splitlines()[0]}; leave this --vit or --side out") from error
    about = {"size": spec.size, "height": spec.height, "width": spec.width, "tokens": model.policy.tokens}
    return [about | {"dtype": dtype} | row for row in rows]


def make_family(spec: ModelSpec, policy: PolicySpec, dtype: torch.dtype, device: torch.device) -> Segmenter:
    """An untrained model on the device.

    Raises:
        InputError: see `check_buckets`.
    """
    made = make_policy(policy, shape_of(spec))
    check_buckets(made, policy.name)
    return place(Segmenter(spec, made), device, dtype)


def check_buckets(policy: TokenPolicy, name: str) -> None:
    """Refuses a policy of which there is nothing to time.

    Raises:
        InputError: a policy without decisions or without a static form.
    """
    if not policy.gated:
        raise InputError(f"policy {name} decides nothing, so it has no buckets; take one that does, such as cts-svit")
    if policy.not_exportable:
        raise InputError(f"policy {name} has no graph: {policy.not_exportable}")


def random_frame(spec: ModelSpec, seed: int, device: torch.device) -> Tensor:
    """Levels (H, W, 3) on the host."""
    levels_HW3 = np.random.default_rng(seed).integers(0, 256, (spec.height, spec.width, 3), dtype=np.uint8)
    return place_frame(levels_HW3, device)


def list_runners(model: Segmenter, family: BucketFamily) -> Iterator[Timed]:
    """Dense first, then the buckets from small to large, each in both modes."""
    dense = DenseGraph(model, model.spec.depth, DIALECT)
    for mode, of_dense in ((GRAPH, GRAPH), (DYNAMIC, EAGER)):
        run = WholeRunner(dense, blank_frame(model).to(model.mean.device), MODES[of_dense])
        yield Timed({"graph": "dense", "mode": mode, "token_share": 1.0}, run)
    buckets = place_buckets(model.policy.schedule, family, None)
    entries = [bucket_entry(bucket, model) for bucket in buckets]
    thresholds = [0.0] * len(model.policy.gated)
    graphs = FamilyRunner(model, thresholds, buckets, MODES[GRAPH])
    for bucket in buckets:
        about = {"graph": bucket.name, "token_share": model.share_of_dense(bucket)}
        dynamic = DynamicRunner(model, thresholds, bucket.counts, family.multiple)
        yield Timed(about | {"mode": GRAPH}, partial(graphs, choose=fixed(entries, bucket.name)))
        yield Timed(about | {"mode": DYNAMIC}, dynamic)
