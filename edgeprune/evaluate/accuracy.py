"""Accuracy of the compiled graphs: the dense reference, every bucket, and `auto`, the choice that a run makes."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import DENSE, Bundle
from edgeprune.data import Sample, Samples, spread
from edgeprune.data.datasets import DataSet
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.metric import RowScores
from edgeprune.runtime.choose import in_frame
from edgeprune.runtime.engines import ENGINES, Session
from edgeprune.runtime.engines.engine import Outputs

logger = logging.getLogger(__name__)

AUTO = "auto"
BASELINE_PRECISION = "int8"


def evaluate(
    bundle: Bundle,
    samples: Samples,
    data_set: DataSet,
    *,
    engine: str | None = None,
    precisions: Sequence[str] | None = None,
    buckets: Sequence[str] | None = None,
    baselines: Sequence[Path] = (),
    threads: int | None = None,
    frames: int | None = None,
) -> dict[str, Any]:
    """Scores graphs on labelled frames, fitted to the input as in a run, by the metric of the bundle's task.

    The trunk runs once per frame and every tail on its state; `auto` takes the answer of the tail that
    `choose.in_frame` picks, which is the one that a run gives and shows.

    Args:
        bundle: from `open_bundle`.
        samples: a split of the data set.
        data_set: its classes, its ignore index, and the size at which it is scored.
        engine: a key of ENGINES; the target's by default.
        precisions: all of the bundle by default.
        buckets: names of the buckets that get a row; all by default. `auto` chooses among all in any case: all that can be
            opened here (`Engine.able`); the others are said.
        baselines: single INT8 graphs of other making, frame -> outputs, beside them; a row each by the name of the file.
        threads: the target's by default.
        frames: so many, spread evenly over the split; all by default.

    Returns:
        `frames`, `threads`, `engine` (its description) and `rows` of {`bucket`, `precision`, `engine`, `tokens`
        (processed per frame, summed over the blocks; the mean for `auto`), `token_share` (of the dense model's),
        and the metric's figures: of the semantic task those of `Scores.result`}; the `auto` rows also `buckets` {name: frames}.

    Raises:
        InputError: unknown engine, precision or bucket; classes that aren't the model's; targets that the metric refuses.
    """
    manifest = bundle.manifest
    metric = choose(METRICS, manifest.task, "task")(bundle, data_set, len(samples))
    engine = engine or manifest.target.engine
    opener = choose(ENGINES, engine, "engine")
    threads = threads or manifest.target.threads
    shown = [bundle.bucket(name).name for name in buckets or [entry.name for entry in manifest.buckets]]
    rows = Rows(metric.scores)
    tokens_of = {entry.name: entry.token_layers for entry in manifest.buckets}
    picked = spread(len(samples), frames)
    preprocess = Preprocess.of(manifest)
    with ExitStack() as stack:
        dense = stack.enter_context(closing(opener.open_graph(bundle.path(manifest.dense), threads)))
        others = {path.stem: stack.enter_context(closing(opener.open_graph(path, threads))) for path in baselines}
        sessions: dict[str, Session] = {}
        able: dict[str, list[str]] = {}
        for precision in precisions or manifest.graphs:
            able[precision], lines = opener.able(bundle, precision)
            for line in lines:
                logger.warning(line)
            session = stack.enter_context(closing(opener.open(bundle, precision, able[precision], threads)))
            sessions[precision] = session
        choosers = {
            precision: in_frame([entry for entry in manifest.buckets if entry.name in names], None)
            for precision, names in able.items()
        }
        described = next(iter(sessions.values())).describe()
        for done, index in enumerate(picked, 1):
            sample = samples[index]
            metric.look_at(sample, samples.origin(index))
            frame_HW3 = preprocess.fit(sample.image_HW3)
            answers: list[tuple[str, str, int, Outputs]] = []
            answers.append((DENSE, "fp32", manifest.depth * manifest.tokens, dense(frame_HW3)))
            for name, other in others.items():
                answers.append((name, BASELINE_PRECISION, manifest.depth * manifest.tokens, other(frame_HW3)))
            for precision, session in sessions.items():
                chosen = choosers[precision](session.start(frame_HW3))
                opened = [name for name in shown if name in able[precision]]
                of_bucket = {name: session.finish(name) for name in dict.fromkeys([*opened, chosen])}
                answers += [(name, precision, tokens_of[name], of_bucket[name]) for name in opened]
                answers.append((AUTO, precision, tokens_of[chosen], of_bucket[chosen]))
                rows.chosen(precision, chosen)
            for bucket, precision, tokens, outputs in answers:
                try:
                    rows.add(bucket, precision, tokens, outputs, sample)
                except InputError as error:
                    raise InputError(f"{samples.origin(index)}: {error}") from None
            if done % max(1, len(picked) // 10) == 0:
                logger.info(f"{done} of {len(picked)} frames")
    metric.check()
    return {
        "frames": len(picked),
        "threads": threads,
        "engine": described,
        "rows": rows.result(engine, manifest.depth * manifest.tokens),
    }


class Rows:
    """The scores of each pair of bucket and precision, in the order in which they first came."""

    def __init__(self, new_scores: Callable[[], RowScores]):
        self._new_scores = new_scores
        self._scores: dict[tuple[str, str], RowScores] = {}
        self._tokens: dict[tuple[str, str], int] = {}
        self._frames: dict[tuple[str, str], int] = {}
        self._chosen: dict[str, dict[str, int]] = {}

    def chosen(self, precision: str, bucket: str) -> None:
        """Counts a choice of `auto`."""
        counts = self._chosen.setdefault(precision, {})
        counts[bucket] = counts.get(bucket, 0) + 1

    def add(self, bucket: str, precision: str, tokens: int, outputs: Outputs, sample: Sample) -> None:
        """Adds a frame. Raises InputError as `RowScores.add`."""
        key = (bucket, precision)
        self._scores.setdefault(key, self._new_scores()).add(outputs, sample)
        self._tokens[key] = self._tokens.get(key, 0) + tokens
        self._frames[key] = self._frames.get(key, 0) + 1

    def result(self, engine: str, all_tokens: int) -> list[dict[str, Any]]:
        """The rows; see `evaluate`. `all_tokens`: of the dense model, summed over its blocks."""
        found: list[dict[str, Any]] = []
        for (bucket, precision), scores in self._scores.items():
            tokens = self._tokens[bucket, precision] / self._frames[bucket, precision]
            row = {"bucket": bucket, "precision": precision, "engine": engine, "tokens": tokens}
            row |= {"token_share": tokens / all_tokens, **scores.result()}
            if bucket == AUTO:
                row["buckets"] = self._chosen[precision]
            found.append(row)
        return found


def accuracy_of(rows: Iterable[dict[str, Any]], bucket: str, precision: str, engine: str) -> float | None:
    """The figure that precisions are chosen by, of a bucket, precision and engine in rows of `evaluate`; None where there is
    none."""
    asked = (bucket, precision, engine)
    found = (row for row in rows if (row.get("bucket"), row.get("precision"), row.get("engine")) == asked)
    figures = (row.get(metric.figure) for row in found for metric in METRICS.values() if metric.figure in row)
    return next(figures, None)
