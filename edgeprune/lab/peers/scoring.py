"""What a peer's graphs score, by the code that scores a bundle's: each precision in each engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from edgeprune.base.errors import choose
from edgeprune.base.table import INLINE
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.data import Samples
from edgeprune.data.datasets import DataSet
from edgeprune.evaluate.accuracy import evaluate
from edgeprune.evaluate.graphs import AUTO, GraphSelection
from edgeprune.evaluate.tasks import METRICS
from edgeprune.lab.peers.graphs import PeerGraphs


@dataclass(frozen=True)
class PeerRow:
    """One graph in one engine.

    Attributes:
        figures: the brief ones of the task's metric, by name.
        graph: its file.
    """

    peer: str
    precision: str
    engine: str
    figures: Mapping[str, float | None] = field(metadata=INLINE)
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
        data: the samples with what the metric of the peer's task scores, see `open_scored`.
        frames: so many, spread evenly; None: all.
    """
    data_set, samples = data
    metric = choose(METRICS, graphs.card.model.task, "task")
    rows = []
    for engine in engines:
        paths = {"fp32": graphs.fp32, "int8": graphs.int8(engine)}
        result = evaluate(
            graphs.seen_by(engine, target), samples, data_set, GraphSelection(precisions), engine=engine, frames=frames
        )
        for row in result.rows:
            if row.bucket == AUTO:
                figures = {key: row.figures[key] for key in metric.brief}
                peer, path = graphs.card.network or "", str(paths[row.precision])
                rows.append(PeerRow(peer, row.precision, engine, figures, path))
    return rows
