"""One tail for all buckets, an experiment for TensorRT: a graph of dynamic counts, compiled with a profile of one point per
bucket, would hold the weights once where an engine per bucket holds them once each. What it costs in time is for the
device to say (`edgeprune compile BUNDLE --one-tail`); a run takes the static tails.

How many candidates a decision takes is the length of an input of its own, `keep0`, `keep1` ..., of which nothing but the
length is read: an execution tensor, so that no shape tensor passes through the host. TensorRT's TopK takes a K that is computed
(ITopKLayer, "dynamic k").

Shapes: N tokens of the grid, D width, K candidates that a decision takes. Graphs hold one frame.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn

from edgeprune.engines.fp16_rounded import round_fp16
from edgeprune.engines.plans import PROFILES, Profiles
from edgeprune.errors import InputError, RunError
from edgeprune.export.graphs import blank_frame, channels_last, export_graph, to_labels, trunk_outputs
from edgeprune.model.policy import Bucket, TokenPolicy
from edgeprune.model.segmenter import Segmenter

LEAST = 2  # candidates: torch.export takes lengths of 0 and 1 for constants


class OneTailGraph(nn.Module):
    """tokens, skips, scores, a tensor per decision -> labels, at the counts that their lengths say."""

    def __init__(self, model: Segmenter, dialect: str):
        super().__init__()
        self.model, self.dialect = model, dialect

    def forward(self, state: Sequence[Tensor], keeps: Sequence[Tensor]) -> Tensor:
        x_ND, *skips_1HWC, scores_N = state
        skips = [skip_1HWC.permute(0, 3, 1, 2) for skip_1HWC in skips_1HWC]
        counts = self.model.policy.counts_of([keep_K.shape[0] for keep_K in keeps])
        return to_labels(self.model.tail(x_ND, skips, scores_N, counts), self.dialect)


def able_buckets(model: Segmenter, buckets: Sequence[Bucket]) -> list[Bucket]:
    """Those that one graph can serve: every decision leaves something out. The full grid's keeps its own tail.

    Raises:
        InputError: the policy has no form of dynamic counts, or there is nothing to share.
    """
    policy, name = model.policy, type(model.policy).__name__
    able = []
    for bucket in buckets:
        candidates = policy.candidates(bucket.counts) if bucket.counts else []
        if candidates and policy.counts_of(candidates) != tuple(bucket.counts):
            raise InputError(f"--one-tail: {name} has no form of dynamic counts; leave it out")
        if candidates and all(
            LEAST <= taken <= most - LEAST for taken, most in zip(candidates, _offered(policy, bucket), strict=True)
        ):
            able.append(bucket)
    if len(able) < 2:
        raise InputError(
            f"--one-tail: {len(able)} of the {len(buckets)} buckets of {name} could share a tail; leave it out"
        )
    return able


def _offered(policy: TokenPolicy, bucket: Bucket) -> list[int]:
    """Of how many each decision of a bucket chooses: what the full grid's takes, and behind a merge the tokens it left."""
    full = policy.candidates([policy.tokens] * len(bucket.counts))
    left = bucket.counts[0] if policy.merges_at(0) else policy.tokens
    return [full[0], *([left] * (len(full) - 1))]


def export_one_tail(model: Segmenter, buckets: Sequence[Bucket], dialect: str) -> tuple[onnx.ModelProto, Profiles]:
    """The graph, and for each bucket that it serves the lengths of its dynamic inputs."""
    able = able_buckets(model, buckets)
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(blank_frame(model))
    assert scores_N is not None
    state = [x_ND, *channels_last(skips), scores_N]
    taken = {bucket.name: model.policy.candidates(bucket.counts) for bucket in able}
    first = taken[able[0].name]
    names = [f"keep{index}" for index in range(len(first))]
    keeps = [torch.zeros(count, dtype=torch.uint8) for count in first]
    shapes = {"state": [None] * len(state), "keeps": [{0: torch.export.Dim.AUTO}] * len(keeps)}
    inputs: Any = (state, keeps)
    wanted = [*trunk_outputs(model), *names]
    try:
        proto = export_graph(OneTailGraph(model, dialect), inputs, wanted, ["labels"], dynamic_shapes=shapes)
        fixed = [value.name for value in proto.graph.input if value.name in names and not _is_open(value)]
    except Exception as error:  # the exporter's own, which share no base but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"--one-tail: {type(model.policy).__name__} can't be traced ({reason}); leave it out"
        ) from error
    if fixed:
        raise InputError(
            f"--one-tail: {type(model.policy).__name__} fixes the lengths of {', '.join(fixed)}; leave it out"
        )
    profiles = {
        bucket: dict(zip(names, ([count] for count in counts), strict=True)) for bucket, counts in taken.items()
    }
    return proto, profiles


def _is_open(value: onnx.ValueInfoProto) -> bool:
    return any(side.WhichOneof("value") == "dim_param" for side in value.type.tensor_type.shape.dim)


def write_profiles(graph: Path, profiles: Profiles) -> None:
    """Beside the graph, where whoever compiles it looks for them."""
    graph.with_suffix(PROFILES).write_text(json.dumps(profiles, indent=1) + "\n")


def check_one_tail(
    one: onnx.ModelProto,
    profiles: Profiles,
    trunk: onnx.ModelProto,
    tails: Mapping[str, onnx.ModelProto],
    frames_FHW3: np.ndarray,
    least: float,
) -> float:
    """The least share of labels, over its buckets, that the graph gives as the bucket's own tail does.

    Raises:
        RunError: it is under `least`.
    """

    def opened(model: onnx.ModelProto) -> ort.InferenceSession:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        return ort.InferenceSession(round_fp16(model).SerializeToString(), options, providers=["CPUExecutionProvider"])

    engine, shared = opened(trunk), opened(one)
    names = [value.name for value in engine.get_outputs()]
    states = [dict(zip(names, engine.run(None, {"frame": frame_HW3}), strict=True)) for frame_HW3 in frames_FHW3]
    worst = 1.0
    for bucket, lengths in profiles.items():
        own = opened(tails[bucket])
        keeps = {name: np.zeros(length, np.uint8) for name, length in lengths.items()}
        for state in states:
            [expected] = own.run(None, {value.name: state[value.name] for value in own.get_inputs()})
            feeds = {value.name: state[value.name] for value in shared.get_inputs() if value.name in state}
            [found] = shared.run(None, feeds | keeps)
            worst = min(worst, float(np.mean(expected == found)))
        if worst < least:
            raise RunError(f"the one tail gives {worst:.2%} of {bucket}'s labels, at least {least:.2%} expected")
    return worst
