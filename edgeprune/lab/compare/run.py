"""Trains, builds, scores and times the rows of a plan, one at a time; what is done is not done again."""

import json
import logging
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.base.errors import InputError, choose
from edgeprune.base.files import sha256
from edgeprune.base.progress import headed
from edgeprune.base.table import write_json
from edgeprune.bundle import MANIFEST, open_bundle
from edgeprune.bundle.target import load_target
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.accuracy import AUTO, evaluate
from edgeprune.export.build import build
from edgeprune.export.graphs import blank_frame
from edgeprune.export.inputs import BuildInputs
from edgeprune.lab.compare.plan import DENSE, row_recipe
from edgeprune.lab.compare.spec import Plan
from edgeprune.lab.compare.timing import time_rows
from edgeprune.lab.compare.verdict import add_controls, pick
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines import ENGINES
from edgeprune.train.phases import train
from edgeprune.train.validation import score

logger = logging.getLogger(__name__)


def compare(plan: Plan, out: Path, cache: Path | None = None) -> dict[str, Any]:
    """Every row and seed in turn, then all of the first seed's graphs in one timing run.

    Args:
        out: `rows/NAME/seedS/` gets the checkpoints, the bundle and `row.json` of each; a row that has one is done.
        cache: where rendered street scenes are kept.

    Returns:
        `plan`, `timing` (of `time_rows`), `limit_points`, `picked` (see `pick`; with `bundle`), and `rows` of {`row`,
        `policy`, `precision`, `engine`, `seeds`, `miou`, `miou_by_seed`, `points_under_dense` and `points_spread` [min,
        max] (paired by seed), `boundary_f`, `token_share`, `gmacs`, `parameters`, `latency_ms` {p50, p95},
        `speedup_vs_dense`, `speedup_spread`, `note`, `points_over_controls`, `controls_spread` (see `add_controls`)}. None
        where unknown.

    Raises:
        InputError, RunError: what training, building, scoring and timing raise.
    """
    check_engines(plan)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for seed in plan.seeds:  # all rows of one seed first: a comparison that is stopped has something to show
        for name in plan.rows:
            folder = out / "rows" / name / f"seed{seed}"
            found[name, seed] = run_row(plan, name, seed, folder, cache)
    bundles = {
        name: open_bundle(out / "rows" / name / f"seed{plan.seeds[0]}" / "bundle")
        for name in plan.rows
        if found[name, plan.seeds[0]]["note"] is None
    }
    timing = time_rows(plan, bundles)
    rows = tabulate(plan, found, timing["rows"])
    add_controls(rows)
    limit = load_target(plan.target).accuracy_limit_points
    picked = [row | {"bundle": str(bundles[row["row"]].folder)} for row in pick(rows, limit)]
    return {"plan": plan.model_dump(), "timing": timing["about"], "limit_points": limit, "picked": picked, "rows": rows}


def check_engines(plan: Plan) -> None:
    """Refuses what would fail after hours of training.

    Raises:
        InputError: an engine that is unknown or can't run here.
    """
    for name in plan.engines:
        reason = choose(ENGINES, name, "engine").missing()
        if reason:
            raise InputError(f"plan {plan.name}: {name} can't run here: {reason}; or take it out of `engines`")


def run_row(plan: Plan, name: str, seed: int, folder: Path, cache: Path | None) -> dict[str, Any]:
    """Trains, builds and scores one row with one seed; what `row.json` holds."""
    recipe = row_recipe(plan, name, seed)
    logger.info(f"{name}, seed {seed}: {', '.join(recipe.phases)}")
    with headed(name):
        checkpoint = train(recipe, folder, cache)[-1]
    done, made_of = folder / "row.json", {"checkpoint": sha256(checkpoint), "score": plan.score.model_dump()}
    if done.is_file():
        known: dict[str, Any] = json.loads(done.read_text())
        if known["made_of"] == made_of and set(plan.precisions) <= set(known["precisions"]):
            logger.info(f"{name}, seed {seed}: done before, {done}")
            return known
    model, card = load(checkpoint)
    row: dict[str, Any] = {"made_of": made_of, "policy": card.policy.name, "note": model.policy.not_exportable}
    row["parameters"] = sum(p.numel() for key, p in model.named_parameters() if "_quantizer" not in key)
    row["precisions"] = (
        {plan.precisions[0]: score_in_torch(plan, model)}
        if model.policy.not_exportable
        else score_graphs(plan, model, checkpoint, folder)
    )
    write_json(done, row)
    return row


def score_graphs(plan: Plan, model: Segmenter, checkpoint: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """Builds the row's bundle where it is not there yet; what `auto` (of a dense model, its one graph) scores."""
    bundle_folder, target = folder / "bundle", load_target(plan.target)
    if not _is_of(bundle_folder, checkpoint, plan.precisions):
        calib = folder / f"calib-{checkpoint.stem}.yaml"
        inputs = BuildInputs(checkpoint, read_calib(calib) if calib.is_file() else None, None)
        build(target, inputs, plan.precisions, bundle_folder)
    bundle = open_bundle(bundle_folder)
    data_set = load_data_set(plan.score.data)
    samples = open_split(data_set, plan.score.split, plan.score.include, plan.score.exclude)
    result = evaluate(bundle, samples, data_set, precisions=plan.precisions, frames=plan.score.frames)
    gmacs = {bucket.name: count_gmacs(model, bucket.counts) for bucket in bundle.manifest.buckets}
    found = {}
    for row in result["rows"]:
        if row["bucket"] != AUTO:
            continue
        frames = sum(row["buckets"].values())
        mean = sum(gmacs[bucket] * count for bucket, count in row["buckets"].items()) / frames
        found[row["precision"]] = {key: row[key] for key in ("miou", "boundary_f", "token_share", "buckets")} | {
            "gmacs": mean
        }
    return found


def score_in_torch(plan: Plan, model: Segmenter) -> dict[str, Any]:
    """The same for a method without graphs: the PyTorch model, nothing timed."""
    data_set = load_data_set(plan.score.data)
    samples = open_split(data_set, plan.score.split, plan.score.include, plan.score.exclude)
    result = score(model, data_set, samples, plan.score.frames, None, boundaries=True)
    return {
        "miou": result.miou,
        "boundary_f": result.boundary_f,
        "token_share": result.tokens,
        "buckets": {},
        "gmacs": None,
    }


def count_gmacs(model: Segmenter, counts: Sequence[int]) -> float:
    """Multiply-adds of one frame in the inference form, in 10^9."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        x_ND, skips, scores_S = model.trunk(blank_frame(model))
        model.tail(x_ND, skips, scores_S, counts)
    return counter.get_total_flops() / 2e9


def _is_of(folder: Path, checkpoint: Path, precisions: Sequence[str]) -> bool:
    """Whether a bundle is there and was built from this checkpoint."""
    if not (folder / MANIFEST).is_file():
        return False
    manifest = open_bundle(folder).manifest
    return manifest.provenance.get("checkpoint_sha256") == sha256(checkpoint) and set(precisions) <= set(
        manifest.graphs
    )


def tabulate(
    plan: Plan, found: dict[tuple[str, int], dict[str, Any]], timed: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """A row per row of the plan, precision and engine: means over the seeds, differences to dense paired by seed."""
    rows = []
    for name in plan.rows:
        for precision in plan.precisions:
            runs = [found[name, seed]["precisions"].get(precision) for seed in plan.seeds]
            if None in runs:
                continue
            under = [
                100 * (found[DENSE, seed]["precisions"][precision]["miou"] - run["miou"])
                for seed, run in zip(plan.seeds, runs, strict=True)
            ]
            common = {
                "row": name,
                "policy": found[name, plan.seeds[0]]["policy"],
                "precision": precision,
                "seeds": len(runs),
                "miou": statistics.mean(run["miou"] for run in runs),
                "miou_by_seed": [run["miou"] for run in runs],
                "points_under_dense": statistics.mean(under),
                "points_spread": [min(under), max(under)],
                **{key: _mean([run[key] for run in runs]) for key in ("boundary_f", "token_share", "gmacs")},
                "parameters": found[name, plan.seeds[0]]["parameters"],
                "note": found[name, plan.seeds[0]]["note"],
            }
            times = [row for row in timed if row["row"] == name and row["precision"] == precision]
            unknown = {"engine": None, "latency_ms": None, "speedup_vs_dense": None, "speedup_spread": None}
            rows += [common | {key: time[key] for key in unknown} for time in times or [unknown]]
    return rows


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.mean(known) if len(known) == len(values) else None
