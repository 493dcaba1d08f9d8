"""`ablate selection`, `ablate int8`: what a trained model's parts are worth, by the figure of its task."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.reading import parse
from edgeprune.cli.options import CHECKPOINT, argument, json_option, option, refuse_typed
from edgeprune.cli.ranges import FRAMES
from edgeprune.cli.show import show_json, show_table, show_wide_table
from edgeprune.cli.verb import Verbs, verb
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.lint import lint_labels
from edgeprune.data.samples import Split
from edgeprune.data.selection import CalibrationFrames
from edgeprune.data.street import StreetSamples
from edgeprune.evaluate.accuracy import metric_of, open_scored
from edgeprune.evaluate.tasks import Metric
from edgeprune.evaluate.tasks.metric import check_classes
from edgeprune.quantize.calib import read_calib

if TYPE_CHECKING:
    from edgeprune.lab.ablate.selection import SelectionAblation
    from edgeprune.model.card import Card

SELECTION_COLUMNS = {  # then the figures of the model's task
    "selection": ("selection", ""),
    "seed": ("seed", ""),
    "tokens": ("tokens", ".1%"),
}
DECISION_COLUMNS = {
    "decision": ("decision", "d"),
    "block": ("before block", "d"),
    "kept": ("kept", ".1%"),
    "returned": ("of them let go before", ".1%"),
}
INT8_COLUMNS = {  # behind the figure of the model's task
    "lost_points": ("points under float", ".2f"),
    "agreement": ("equal selection", ".2%"),
    "agreement_by_gate": ("gate by gate", ""),
}


@dataclass(frozen=True, kw_only=True)
class Scored:
    """A checkpoint, and the frames that it is scored on."""

    checkpoint: Path = argument(CHECKPOINT)
    data: str = option("--data", default=MISSING, help="Data set: a name, a folder or a YAML file.")
    split: str = option("--split", default="val")
    include: tuple[str, ...] = option(
        "--include", default=(), help="Glob over file stems, to score one drive alone; repeatable."
    )
    frames: int | None = option("--frames", FRAMES, help="Score so many, evenly spread; default: all.")


@dataclass(frozen=True, kw_only=True)
class SelectionOptions(Scored):
    seeds: int = option("--seeds", click.IntRange(0, 1_000), default=3, help="Draws of random selection.")
    calib: Path | None = option(
        "--calib", help="For the row at calibrated thresholds; default: beside the checkpoint, else the shipped one."
    )
    bypass_from: int | None = option(
        "--bypass-from", click.IntRange(1, 1_000), help="Dense models: score the first so many blocks alone."
    )
    detail: bool = option(
        "--detail",
        default=False,
        help="Also classes, tokens that return, and of label maps the boundary F (at the model's size).",
    )
    json: bool = json_option()


@verb(
    "selection",
    SelectionOptions,
    [
        "edgeprune ablate selection out/train/street-short/qat.safetensors --data street --frames 24",
        "edgeprune ablate selection out/train/street-short/dense.safetensors --data street --bypass-from 3",
    ],
    moved={"--int8": "edgeprune ablate int8"},
)
def selection(options: SelectionOptions) -> None:
    """Score a CHECKPOINT with other selections of tokens.

    All tokens, learned, random, uniform, gated blocks bypassed.
    """
    from edgeprune.model.card import read_header

    checkpoint = options.checkpoint
    card, _ = read_header(checkpoint)
    policy = card.policy.name
    if policy == "dense":
        refuse_typed(f"{checkpoint} is dense and chooses no tokens", "seeds", "calib")
    else:
        refuse_typed(f"{checkpoint} is {policy}, not dense", "bypass_from")
    if options.calib is not None:
        read_calib(options.calib)
    data_set, samples = _open_frames(card, options)
    # torch takes seconds: what was given has been read
    from edgeprune.export.inputs import calibration_of
    from edgeprune.lab.ablate import Scoring, ablate_depth, ablate_selection
    from edgeprune.quantize.loading import load

    model, _ = load(checkpoint)
    measured = calibration_of(checkpoint, options.calib) if model.policy.gated else None
    if measured and measured.region:
        raise InputError(
            f"the calibration of {checkpoint} is of a region, selections are scored on whole frames; name another with --calib"
        )
    scoring = Scoring(model, data_set, samples, options.frames, options.detail)
    if model.policy.gated:
        result = ablate_selection(scoring, measured, options.seeds)
    else:
        result = ablate_depth(scoring, options.bypass_from)
    if options.json:
        show_json(result)
    else:
        show_selection(result, options.detail)


def metric_by(figures: Mapping[str, Any]) -> type[Metric]:
    """The metric that made them."""
    metric = metric_of(figures)
    assert metric is not None  # every task has one
    return metric


def show_selection(result: "SelectionAblation", detail: bool) -> None:
    """A row for each selection; with details also a table of the classes, and which tokens return."""
    figures = result.rows[0].figures
    metric = metric_by(figures)
    columns = {f"figures.{name}": column for name, column in metric.columns.items() if name in figures}
    show_table(result.rows, SELECTION_COLUMNS | columns)
    if detail:
        key, _ = metric.by_class
        by_class = [{"selection": row.selection, "seed": row.seed, **row.figures[key]} for row in result.rows]
        heads = {name: (name[:16], ".3f") for name in figures[key]}
        show_wide_table(by_class, {"selection": ("selection", ""), "seed": ("seed", "")}, heads)
        if result.decisions is not None:
            show_table(result.decisions, DECISION_COLUMNS)
    if result.depth_is_worth_points is not None:
        points = f"{result.depth_is_worth_points:.1f} points of {metric.called()}"
        click.echo(f"bypassing the gated blocks costs {points}")


@dataclass(frozen=True, kw_only=True)
class Int8Options(Scored):
    json: bool = json_option()


@verb(
    "int8",
    Int8Options,
    [
        "edgeprune ablate int8 out/train/street-short/sparse.safetensors --data street --frames 24",
        "edgeprune ablate int8 out/train/street-short/qat.safetensors --data street --json",
    ],
)
def int8(options: Int8Options) -> None:
    """Score a CHECKPOINT with its linears in INT8.

    What INT8 costs, by ranges, NNCF's algorithms, kind of layer. Calibrated on the train split, on none of the frames that
    are scored.
    """
    from edgeprune.model.card import read_header

    card, _ = read_header(options.checkpoint)
    if options.split == "train" and not options.include:
        raise InputError("int8 calibrates on the train split; to score frames of it, name them with --include")
    data_set, samples = _open_frames(card, options)
    # torch takes seconds: what was given has been read
    from edgeprune.lab.ablate import ablate_int8
    from edgeprune.quantize.loading import load

    model, _ = load(options.checkpoint)
    spec = parse(
        CalibrationFrames, {"data": options.data, "split": "train", "exclude": list(options.include)}, "options"
    )
    rows = ablate_int8(model, data_set, samples, spec, options.frames)
    if options.json:
        show_json({"rows": rows})
    else:
        metric = metric_by(rows[0].figures)
        figure = {f"figures.{metric.figure}": metric.columns[metric.figure]}
        show_table(rows, {"int8": ("in INT8", "")} | figure | INT8_COLUMNS)


def _open_frames(card: "Card", options: Scored) -> tuple[DataSet, Split]:
    """The data set, and the split that is scored, with the labels that the task's figure takes.

    Raises:
        InputError: other classes than the checkpoint's, or labels that can't be scored: a wrong figure says nothing of either.
    """
    data_set = load_data_set(options.data)
    samples = open_scored(card.model.task, data_set, options.split, list(options.include) or ["*"])
    check_classes(card.names, f"checkpoint {options.checkpoint}", data_set)
    if not isinstance(samples, StreetSamples):  # whose labels are exact
        lint_labels(samples, data_set, options.frames).check()
    return data_set, samples


ablate = Verbs(
    "ablate",
    {"Verbs": {"selection": selection, "int8": int8}},
    help="Score a trained model with other selections, or in INT8.",
)
