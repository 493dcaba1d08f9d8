"""A peer's row once it is trained: its graphs for each engine of the plan, what they score there, and what is timed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeprune.bundle import Bundle
from edgeprune.bundle.target import load_target
from edgeprune.data.datasets import load_data_set
from edgeprune.data.selection import CalibrationFrames
from edgeprune.evaluate.accuracy import open_scored
from edgeprune.export.graphs import blank_frame
from edgeprune.lab.compare.gmacs import gmacs_of
from edgeprune.lab.compare.spec import Plan
from edgeprune.lab.peers.graphs import PeerGraphs
from edgeprune.lab.peers.scoring import PeerRow, score_peer
from edgeprune.lab.peers.training import load_peer
from edgeprune.model.segmenter import as_image
from edgeprune.quantize.loading import read_card

FOLDER = "peer"  # of the graphs, beside the checkpoint


@dataclass(frozen=True)
class PeerScores:
    """`rows`: of each engine and precision; `gmacs`: 1e9 multiply-adds of a frame."""

    rows: list[PeerRow]
    parameters: int
    gmacs: float


def score_peer_row(
    plan: Plan, peer_name: str, checkpoint: Path, calibration: CalibrationFrames, engines: Sequence[str]
) -> PeerScores:
    """Exports and scores a peer that is trained; INT8 is another graph in each engine, and scores something else.

    Args:
        calibration: of the recipe that it was trained by.
    """
    peer, card = load_peer(checkpoint, peer_name)
    graphs = PeerGraphs(checkpoint.parent / FOLDER, card)
    graphs.write(peer, calibration, engines if "int8" in plan.precisions else ())
    data_set, score = load_data_set(plan.score.data), plan.score
    samples = open_scored(card.model.task, data_set, score.split, score.include, score.exclude)
    target = load_target(plan.target).runtime()
    rows = score_peer(graphs, engines, target, (data_set, samples), plan.precisions, score.frames)
    gmacs = gmacs_of(peer, lambda: peer(as_image(blank_frame(peer))))
    return PeerScores(rows, sum(each.numel() for each in peer.parameters()), gmacs)


def peer_bundle(plan: Plan, peer_name: str, checkpoint: Path, engine: str) -> Bundle:
    """What is timed of a peer in an engine."""
    graphs = PeerGraphs(checkpoint.parent / FOLDER, read_card(checkpoint, peer_name))
    return graphs.seen_by(engine, load_target(plan.target).runtime())
