"""What a peer's graphs score, by the code that scores a bundle's: each precision in each engine."""

from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.evaluate.accuracy import evaluate
from edgeprune.evaluate.graphs import AUTO, GraphSelection
from edgeprune.lab.peers.graphs import PeerGraphs


@dataclass(frozen=True)
class PeerRow:
    """One graph in one engine. `miou`, `boundary_f`, `small_things_miou`: see `Scores.result`; `graph`: its file."""

    peer: str
    precision: str
    engine: str
    miou: float
    boundary_f: float | None
    small_things_miou: float | None
    graph: str


def score_peer(
    graphs: PeerGraphs,
    engines: Sequence[str],
    target: RuntimeSpec,
    data: tuple[DataSet, Samples],
    precisions: Sequence[str],
    frames: int | None = None,
) -> list[PeerRow]:
    """A row for each engine and precision.

    Args:
        target: whose threads the engines take.
        frames: so many, spread evenly; None: all.
    """
    data_set, samples = data
    rows = []
    for engine in engines:
        paths = {"fp32": graphs.fp32, "int8": graphs.int8(engine)}
        result = evaluate(
            graphs.seen_by(engine, target), samples, data_set, GraphSelection(precisions), engine=engine, frames=frames
        )
        for row in result.rows:
            if row.bucket == AUTO:
                scores = {key: row.figures[key] for key in ("miou", "boundary_f", "small_things_miou")}
                peer, path = graphs.card.network or "", str(paths[row.precision])
                rows.append(PeerRow(peer, row.precision, engine, graph=path, **scores))
    return rows
