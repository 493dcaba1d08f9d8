"""Accuracy of the compiled graphs: the dense reference, every bucket, and `auto`, the choice that a run makes."""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.data import Sample, Samples, open_split, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import Split
from edgeprune.evaluate.graphs import ALL_GRAPHS, Answer, GraphSelection, open_graphs
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.metric import Metric, RowScores
from edgeprune.runtime.engines import ENGINES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccuracyRow:
    """What one graph scores.

    Attributes:
        bucket: of a bucket its name; `dense`, `auto`, or a baseline's file name without its extension.
        engine: a key of ENGINES.
        tokens: processed per frame, summed over the blocks; the mean for `auto`.
        token_share: of the dense model's.
        figures: the metric's, by name; of the semantic task those of `Scores.result`.
        buckets: of `auto`, how many frames each bucket had; else None.
    """

    bucket: str
    precision: str
    engine: str
    tokens: float
    token_share: float
    figures: Mapping[str, Any]
    buckets: Mapping[str, int] | None = None

    def to_json(self) -> dict[str, Any]:
        """The row as JSON, CSV and tables have it: its figures stand among its own keys, `buckets` in rows of `auto` alone."""
        row = {key: value for key, value in vars(self).items() if key not in ("figures", "buckets")}
        return row | dict(self.figures) | ({} if self.buckets is None else {"buckets": dict(self.buckets)})


@dataclass(frozen=True)
class AccuracyResult:
    """Graphs in one engine on labelled frames.

    Attributes:
        frames: how many were scored.
        engine: `Session.describe()`.
        scored_share: see `Metric.scored_share`.
    """

    frames: int
    threads: int
    engine: dict[str, Any]
    rows: list[AccuracyRow]
    scored_share: float | None = None


def open_scored(
    task: str, data_set: DataSet, split: str, include: Sequence[str] = ("*",), exclude: Sequence[str] = ()
) -> Split:
    """The samples of a split with what the metric of a task scores, label maps or things.

    Raises:
        InputError: see `open_split`; an unknown task; or what computes its metric can't be imported here.
    """
    metric = choose(METRICS, task, "task")
    metric.check_library()
    return open_split(data_set, split, include, exclude, things=metric.things)


def evaluate(
    bundle: Bundle,
    samples: Samples,
    data_set: DataSet,
    graphs: GraphSelection = ALL_GRAPHS,
    *,
    engine: str | None = None,
    frames: int | None = None,
) -> AccuracyResult:
    """Scores graphs on labelled frames, fitted to the input as in a run, by the metric of the bundle's task.

    Args:
        bundle: from `open_bundle`.
        samples: a split of the data set, from `open_scored`.
        data_set: its classes, its ignore index, and the size at which it is scored.
        graphs: which are scored, beside dense FP32.
        engine: a key of ENGINES; the target's by default.
        frames: so many, spread evenly over the split; all by default.

    Raises:
        InputError: unknown engine or precision; classes that aren't the model's; targets that the metric refuses.
    """
    manifest = bundle.manifest
    metric = choose(METRICS, manifest.task, "task")(bundle, data_set, len(samples))
    engine = engine or manifest.target.engine
    rows = Rows(metric.scores)
    picked = spread(len(samples), frames)
    preprocess = Preprocess.of(manifest)
    with open_graphs(bundle, choose(ENGINES, engine, "engine"), graphs) as opened:
        for done, index in enumerate(picked, 1):
            sample = samples[index]
            metric.look_at(sample, samples.origin(index))
            for answer in opened.answers(preprocess.fit(sample.image_HW3)):
                try:
                    rows.add(answer, sample)
                except InputError as error:
                    raise InputError(f"{samples.origin(index)}: {error}") from None
            if done % max(1, len(picked) // 10) == 0:
                logger.info(f"{done} of {len(picked)} frames")
        metric.check()
        return AccuracyResult(
            frames=len(picked),
            threads=graphs.threads or manifest.target.threads,
            engine=opened.describe(),
            rows=rows.result(engine, opened.all_tokens),
            scored_share=metric.scored_share,
        )


class Rows:
    """The scores of each pair of bucket and precision, in the order in which they first came."""

    def __init__(self, new_scores: Callable[[], RowScores]):
        self._new_scores = new_scores
        self._scores: dict[tuple[str, str], RowScores] = {}
        self._tokens: dict[tuple[str, str], list[int]] = {}
        self._chosen: dict[tuple[str, str], dict[str, int]] = {}

    def add(self, answer: Answer, sample: Sample) -> None:
        """Adds a frame. Raises InputError as `RowScores.add`."""
        key = (answer.bucket, answer.precision)
        self._scores.setdefault(key, self._new_scores()).add(answer.outputs, sample)
        self._tokens.setdefault(key, []).append(answer.tokens)
        if answer.chosen is not None:
            counts = self._chosen.setdefault(key, {})
            counts[answer.chosen] = counts.get(answer.chosen, 0) + 1

    def result(self, engine: str, all_tokens: int) -> list[AccuracyRow]:
        """The rows. `all_tokens`: of the dense model, summed over its blocks."""
        found = []
        for key, scores in self._scores.items():
            tokens = sum(self._tokens[key]) / len(self._tokens[key])
            share, chosen = tokens / all_tokens, self._chosen.get(key)
            found.append(AccuracyRow(*key, engine, tokens, share, scores.result(), chosen))
        return found


def figures_of(rows: Iterable[AccuracyRow], bucket: str | None, precision: str, engine: str) -> Mapping[str, Any]:
    """The figures of a bucket, precision and engine; none where it was not scored."""
    asked = (bucket, precision, engine)
    return next((row.figures for row in rows if (row.bucket, row.precision, row.engine) == asked), {})


def accuracy_of(rows: Iterable[AccuracyRow], bucket: str, precision: str, engine: str) -> float | None:
    """The figure that precisions are chosen by, of a bucket, precision and engine; None where there is none."""
    figures = figures_of(rows, bucket, precision, engine)
    metric = metric_of(figures)
    return None if metric is None else figures[metric.figure]


def metric_of(figures: Collection[str]) -> type[Metric] | None:
    """The metric whose figures have these names; None: they are none's."""
    return next((metric for metric in METRICS.values() if metric.figure in figures), None)
