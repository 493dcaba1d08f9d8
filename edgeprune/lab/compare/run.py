"""Trains, builds, scores and times the rows of a plan, one at a time; what is done is not done again."""

import logging
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.base.files import sha256
from edgeprune.base.progress import headed
from edgeprune.base.statistics import extremes
from edgeprune.base.table import plain, write_json
from edgeprune.bundle import Bundle, open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.accuracy import evaluate, metric_of, open_scored
from edgeprune.evaluate.graphs import GraphSelection
from edgeprune.export.build import build
from edgeprune.export.graphs import blank_frame
from edgeprune.export.inputs import BuildInputs
from edgeprune.lab.compare.comparison import MEASURES, ComparedRow, Kind, Limits
from edgeprune.lab.compare.gmacs import gmacs_of
from edgeprune.lab.compare.peer_row import PeerScores, peer_bundle, score_peer_row
from edgeprune.lab.compare.plan import DENSE, engines_of, row_recipe
from edgeprune.lab.compare.spec import Plan
from edgeprune.lab.compare.timing import TimedRow, time_rows
from edgeprune.lab.compare.trained_row import PrecisionScore, TrainedRow, is_built_from, is_made_of, made_of, read_row
from edgeprune.lab.compare.verdict import Comparison, conclude
from edgeprune.lab.peers.training import train_peer
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines import ENGINES
from edgeprune.train.phases import train
from edgeprune.train.recipe import SUFFIX
from edgeprune.train.tasks import TASKS

logger = logging.getLogger(__name__)

BUNDLE = "bundle"  # of a row, in its folder


def run_comparison(plan: Plan, limits: Limits, out: Path, cache: Path | None = None) -> Comparison:
    """Every row and seed in turn, then all of the first seed's graphs in one timing run.

    Args:
        limits: of the rows to deploy.
        out: `rows/NAME/seedS/` gets the checkpoints, the bundle and `row.json` of each; a row that has one is done.
        cache: where rendered street scenes are kept.

    Raises:
        InputError, RunError: what training, building, scoring and timing raise.
    """
    check_engines(plan)
    found: dict[tuple[str, int], TrainedRow] = {}
    for seed in plan.seeds:  # all rows of one seed first: a comparison that is stopped has something to show
        for name in (row for row in plan.rows if seed in plan.seeds_of(row)):
            folder = out / "rows" / name / f"seed{seed}"
            found[name, seed] = run_row(plan, name, seed, folder, cache)
    folders = {
        name: out / "rows" / name / f"seed{plan.seeds[0]}"
        for name in plan.rows
        if found[name, plan.seeds[0]].note is None
    }
    engines = plan.engines or [open_bundle(folders[DENSE] / BUNDLE).manifest.target.engine]
    bundles = {name: bundles_of(plan, name, folder, engines) for name, folder in folders.items()}
    timing, timed = time_rows(plan, bundles)
    runnable = {name: str(folder / BUNDLE) for name, folder in folders.items() if plan.rows[name].peer is None}
    rows = [replace(row, bundle=runnable.get(row.row)) for row in tabulate(plan, found, timed)]
    return conclude(plan.model_dump(), timing, rows, limits)


def bundles_of(plan: Plan, name: str, folder: Path, engines: Sequence[str]) -> dict[str, Bundle]:
    """What is timed of a row, by engine: its bundle, which is one for all, or the graphs that a peer has for each."""
    peer = plan.rows[name].peer
    if peer is None:
        return dict.fromkeys(engines, open_bundle(folder / BUNDLE))
    checkpoint = folder / f"{list(row_recipe(plan, name, plan.seeds[0]).phases)[-1]}{SUFFIX}"
    return {engine: peer_bundle(plan, peer.name, checkpoint, engine) for engine in engines}


def check_engines(plan: Plan) -> None:
    """Refuses what would fail after hours of training.

    Raises:
        InputError: an engine that is unknown or can't run here.
    """
    for name in plan.engines:
        reason = choose(ENGINES, name, "engine").missing()
        if reason:
            raise InputError(f"plan {plan.name}: {name} can't run here: {reason}; or take it out of `engines`")


def run_row(plan: Plan, name: str, seed: int, folder: Path, cache: Path | None) -> TrainedRow:
    """Trains, builds and scores one row with one seed, or reads its `row.json`."""
    recipe = row_recipe(plan, name, seed)
    logger.info(f"{name}, seed {seed}: {', '.join(recipe.phases)}")
    peer = plan.rows[name].peer
    with headed(name):
        checkpoint = train_peer(peer.name, recipe, folder, cache) if peer else train(recipe, folder, cache)[-1]
    now, done = made_of(plan, name, checkpoint), folder / "row.json"
    if done.is_file():
        known = read_row(done)
        if is_made_of(known, now, folder / BUNDLE) and known.covers(plan.precisions, engines_of(plan) if peer else ()):
            logger.info(f"{name}, seed {seed}: done before, {done}")
            return known
    if peer is not None:
        assert recipe.calibration is not None  # `train_peer` refuses a recipe without
        graded = score_peer_row(plan, peer.name, checkpoint, recipe.calibration, engines_of(plan))
        row = as_trained_row(graded, peer.name, now)
        write_json(done, row)
        return row
    model, card = load(checkpoint)
    note = model.policy.not_exportable
    parameters = sum(p.numel() for key, p in model.named_parameters() if "_quantizer" not in key)
    scores = score_graphs(plan, model, checkpoint, folder) if note is None else score_in_torch(plan, model)
    row = TrainedRow(now, card.policy.name, note, parameters, scores)
    write_json(done, row)
    return row


def as_trained_row(scores: PeerScores, peer: str, now: dict[str, Any]) -> TrainedRow:
    """A peer's scores as a row has them: every token is processed, and there is one bucket."""
    by_engine: dict[str, dict[str, PrecisionScore]] = {}
    for row in scores.rows:
        found = as_score(plain(row), token_share=1.0, gmacs=scores.gmacs)
        by_engine.setdefault(row.engine, {})[row.precision] = found
    return TrainedRow(now, peer, None, scores.parameters, next(iter(by_engine.values())), by_engine)


def as_score(
    figures: Mapping[str, Any], token_share: float, buckets: Mapping[str, int] | None = None, gmacs: float | None = None
) -> PrecisionScore:
    """With those of a metric's figures that rows are judged by. `buckets`: none of what has no graphs of several sizes."""
    judged = {measure: figures.get(measure) for measure in MEASURES}
    return PrecisionScore(token_share=token_share, buckets=dict(buckets or {}), gmacs=gmacs, **judged)


def score_graphs(plan: Plan, model: Segmenter, checkpoint: Path, folder: Path) -> dict[str, PrecisionScore]:
    """Scores the graphs of a row in each precision; builds its bundle where it is not there yet."""
    bundle_folder, target = folder / BUNDLE, load_target(plan.target)
    if not is_built_from(bundle_folder, sha256(checkpoint), target.sha256(), plan.precisions):
        calib = folder / f"calib-{checkpoint.stem}.yaml"
        inputs = BuildInputs(checkpoint, read_calib(calib) if calib.is_file() else None, None)
        build(target, inputs, plan.precisions, bundle_folder)
    bundle = open_bundle(bundle_folder)
    data_set = load_data_set(plan.score.data)
    spec = plan.score
    samples = open_scored(bundle.manifest.task, data_set, spec.split, spec.include, spec.exclude)
    result = evaluate(bundle, samples, data_set, GraphSelection(plan.precisions), frames=spec.frames)
    gmacs = {bucket.name: count_gmacs(model, bucket.counts) for bucket in bundle.manifest.buckets}
    found = {}
    for row in result.rows:
        if row.buckets is None:  # not of `auto`
            continue
        mean = sum(gmacs[bucket] * count for bucket, count in row.buckets.items()) / sum(row.buckets.values())
        found[row.precision] = as_score(row.figures, row.token_share, row.buckets, mean)
    return found


def score_in_torch(plan: Plan, model: Segmenter) -> dict[str, PrecisionScore]:
    """Scores the PyTorch model of a method without graphs, in the plan's first precision; nothing is timed. Gates keep the best
    tokens at the target ratios."""
    data_set, spec = load_data_set(plan.score.data), plan.score
    samples = open_scored(model.spec.task, data_set, spec.split, spec.include, spec.exclude)
    found = choose(TASKS, model.spec.task, "task").judge(model, data_set, samples, spec.frames, None, detail=True)
    return {plan.precisions[0]: as_score(found.figures, found.tokens)}


def count_gmacs(model: Segmenter, counts: Sequence[int]) -> float:
    """Multiply-adds of one frame in the inference form, in 10^9."""
    return gmacs_of(model, lambda: model.tail(*model.trunk(blank_frame(model)), counts))


def tabulate(plan: Plan, found: Mapping[tuple[str, int], TrainedRow], timed: Sequence[TimedRow]) -> list[ComparedRow]:
    """A row per row of the plan, precision and engine: means over the seeds, differences to dense paired by seed."""
    rows = []
    for name, precision in product(plan.rows, plan.precisions):
        times = {time.engine: time for time in timed if (time.row, time.precision) == (name, precision)}
        if not times and (row := _row_of_seeds(plan, name, precision, found, None)):
            rows.append(row)
        for engine, time in times.items():
            if row := _row_of_seeds(plan, name, precision, found, engine):
                rows.append(replace(row, **vars(time)))
    return rows


def _row_of_seeds(
    plan: Plan, name: str, precision: str, found: Mapping[tuple[str, int], TrainedRow], engine: str | None
) -> ComparedRow | None:
    """A row without its times; None where it has no such precision."""
    seeds = plan.seeds_of(name)
    of_seeds = [found[name, seed] for seed in seeds]
    runs = [run for run in (each.score(precision, engine) for each in of_seeds) if run is not None]
    if len(runs) < len(seeds):
        return None
    dense = [found[DENSE, seed].precisions[precision] for seed in seeds]
    by_seed = {measure: [getattr(run, measure) for run in runs] for measure in MEASURES}
    known = {measure: values for measure, values in by_seed.items() if None not in values}
    means = {measure: statistics.mean(values) for measure, values in known.items()}
    metric = metric_of(known)
    assert metric is not None  # each run was scored by one
    main = metric.figure
    under = [100 * (getattr(each, main) - getattr(run, main)) for each, run in zip(dense, runs, strict=True)]
    kind: Kind = "dense" if of_seeds[0].policy == DENSE else "pruned"
    return ComparedRow(
        row=name,
        policy=of_seeds[0].policy,
        kind=kind if plan.rows[name].peer is None else "peer",
        precision=precision,
        seeds=len(runs),
        points_under_dense=statistics.mean(under),
        points_spread=extremes(under),
        by_seed=known,
        token_share=_mean([run.token_share for run in runs]),
        gmacs=_mean([run.gmacs for run in runs]),
        parameters=of_seeds[0].parameters,
        note=of_seeds[0].note,
        **means,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None
