"""What is scored and timed of trained networks: the dense model and peers in each mode, every bucket, and `auto`, which takes
the bucket that a frame asks for by the calibrated thresholds. The runners that are timed are scored, by the code of `eval`.

Shapes: H W pixels of the frame.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeprune.bundle.target import BucketFamily
from edgeprune.data import Sample, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.graphs import AUTO
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.semantic import LabelScores
from edgeprune.export.family import place_buckets
from edgeprune.export.graphs import DenseGraph, blank_frame
from edgeprune.export.manifest import bucket_entry
from edgeprune.lab.in_torch.gpu import place, place_frame
from edgeprune.lab.in_torch.rounds import Timed
from edgeprune.lab.in_torch.runners import DIALECT, EAGER, MODES, FamilyRunner, WholeRunner
from edgeprune.lab.in_torch.training import DENSE, SPARSE
from edgeprune.lab.peers.graphs import PeerGraph
from edgeprune.lab.peers.training import load_peer
from edgeprune.model.network import Network
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import Calib, read_calib
from edgeprune.quantize.calibrate import model_thresholds
from edgeprune.quantize.loading import load
from edgeprune.runtime.choose import fixed, in_frame
from edgeprune.train.recipe import Recipe
from edgeprune.train.validation import open_validation

logger = logging.getLogger(__name__)
Run = Callable[[Tensor], list[Tensor]]


@dataclass(frozen=True)
class ScoredFrames:
    """Frames that no network was trained on, as they are, and as they are given to all (H, W, 3)."""

    data_set: DataSet
    preprocess: Preprocess
    samples: list[Sample]
    levels: list[Tensor]

    @classmethod
    def of(cls, recipe: Recipe, count: int, device: torch.device) -> "ScoredFrames":
        """So many of a recipe's validation frames, spread evenly over them."""
        assert recipe.validation is not None  # `check_alike` refuses a recipe without
        data_set, split = open_validation(recipe.validation)
        preprocess = Preprocess.of(recipe.model)
        logger.info(f"reads {count} frames of {data_set.name}")
        samples = [split[index] for index in spread(len(split), count)]
        levels = [place_frame(preprocess.fit(sample.image_HW3), device) for sample in samples]
        return cls(data_set, preprocess, samples, levels)

    def score(self, run: Run) -> dict[str, float | None]:
        """What a runner's labels score at the frames' own pixels, by the measures of `compare`."""
        scores = LabelScores(self.preprocess, self.data_set)
        for sample, frame_HW3 in zip(self.samples, self.levels, strict=True):
            scores.add({"labels": run(frame_HW3)[0].numpy()}, sample)
        result = scores.result()
        return {measure: result[measure] for measure in METRICS["semantic"].brief}


def list_networks(
    checkpoints: Mapping[str, Path],
    frames: ScoredFrames,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool = False,
) -> Iterator[Timed]:
    """Dense first, then the peers, then the pruned model.

    Args:
        checkpoints: `dense`, `sparse`, and any number of peers by their names.
        compiled: whether buckets are compiled too; they are not timed eagerly.

    Returns:
        runners that say of themselves {`network`, `parameters`, `graph`, `mode`, `token_share`}; and, for one mode of each
        network, what it scores, and of `auto` how many frames each of the `buckets` had.
    """
    dense, _ = load(checkpoints[DENSE])
    yield from whole(DENSE, place(dense, device, dtype), DenseGraph(dense, dense.spec.depth, DIALECT), frames)
    for name in checkpoints:
        if name not in (DENSE, SPARSE):
            peer, _ = load_peer(checkpoints[name], name)
            yield from whole(name, place(peer, device, dtype), PeerGraph(peer), frames)
    pruned, _ = load(checkpoints[SPARSE])
    calib = read_calib(checkpoints[SPARSE].with_name(f"calib-{checkpoints[SPARSE].stem}.yaml"))
    modes = modes_of(device)[: 2 if compiled else 1]
    yield from family(place(pruned, device, dtype), calib, BucketFamily(), frames, modes)


def modes_of(device: torch.device) -> list[str]:
    """The keys of MODES that a device has: the CUDA graph, which others are held against, then the compiled one; a CPU has
    neither."""
    return list(MODES) if device.type == "cuda" else [EAGER]


def whole(name: str, network: Network, graph: nn.Module, frames: ScoredFrames) -> Iterator[Timed]:
    """A dense model or a peer, in each mode."""
    device = next(network.parameters()).device
    for number, mode in enumerate(modes_of(device)):
        logger.info(f"{name}: {mode}")
        run = WholeRunner(graph, blank_frame(network).to(device), MODES[mode])
        about = {"network": name, "parameters": count_parameters(network), "graph": "whole", "mode": mode}
        scored = frames.score(run) if number == 0 else {}
        yield Timed(about | {"token_share": 1.0} | scored, run)


def family(
    model: Segmenter, calib: Calib, spec: BucketFamily, frames: ScoredFrames, modes: Sequence[str]
) -> Iterator[Timed]:
    """Every bucket of a pruned model, placed as a build places them, and `auto`, in each mode."""
    buckets = place_buckets(model.policy.schedule, spec, calib.placing)
    entries = [bucket_entry(bucket, model) for bucket in buckets]
    shares = {bucket.name: model.share_of_dense(bucket) for bucket in buckets}
    thresholds, choose = model_thresholds(model, calib), in_frame(entries)
    for number, mode in enumerate(modes):
        logger.info(f"{SPARSE}: {mode}, {len(buckets)} buckets")
        graphs = FamilyRunner(model, thresholds, buckets, MODES[mode])
        about = {"network": SPARSE, "parameters": count_parameters(model), "mode": mode}
        for name, share in shares.items():
            yield Timed(about | {"graph": name, "token_share": share}, partial(graphs, choose=fixed(entries, name)))
        chosen = Counter(choose(graphs.count(frame_HW3)) for frame_HW3 in frames.levels)
        share = sum(count * shares[name] for name, count in chosen.items()) / chosen.total()
        auto = partial(graphs, choose=choose)
        scored = frames.score(auto) | {"buckets": dict(chosen)} if number == 0 else {}
        yield Timed(about | {"graph": AUTO, "token_share": share} | scored, auto)


def count_parameters(network: Network) -> int:
    """Of the network; what ends with a phase of training is no part of it."""
    return sum(each.numel() for each in network.parameters())
