"""`train`, `calibrate`, `probe`: the verbs before a bundle. torch, which takes seconds, is imported when the files that a verb
was given have been read: what is wrong with one is said before."""

import logging
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.reading import parse
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import CALIBRATION_FRAMES, FRAMES
from edgeprune.cli.show import as_json, refuse_beside, show_json, show_table
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.selection import Calibration
from edgeprune.data.split import open_calibration
from edgeprune.quantize.calib import read_calib
from edgeprune.train.recipe import leave_out as without
from edgeprune.train.recipe import load_recipe

logger = logging.getLogger(__name__)


@click.command()
@click.argument("recipe")
@click.option(
    "--out", type=click.Path(path_type=Path), help="Folder for checkpoints; default out/train/<recipe's name>."
)
@click.option("--set", "overrides", multiple=True, metavar="KEY.KEY=VALUE", help="Override a key of the recipe.")
@click.option("--phase", "phases", multiple=True, help="Run this phase alone; repeatable.")
@click.option("--leave-out", metavar="DATA:GLOB", help="Train without these files, validate on them: camvid:0016E5*.")
@click.option("--cache", type=click.Path(path_type=Path), help="Where rendered street scenes are kept (1 MB each).")
@as_json
def train(
    recipe: str,
    out: Path | None,
    overrides: tuple[str, ...],
    phases: tuple[str, ...],
    leave_out: str | None,
    cache: Path | None,
    json_: bool,
) -> None:
    """Train a RECIPE (a name or a YAML file): dense, sparse, QAT. Resumes where it was stopped."""
    from edgeprune.train.named import check_named

    loaded = load_recipe(recipe, list(overrides))
    if leave_out is not None:
        loaded = without(loaded, leave_out)
    folder = out or Path("out/train") / loaded.name
    check_named(loaded, folder, phases)
    own([folder], [recipe], folders=True)
    from edgeprune.train.phases import train as run_training

    logger.info(f"{loaded.name}: phases {', '.join(loaded.phases)}; checkpoints in {folder}")
    paths = run_training(loaded, folder, cache, list(phases) or None)
    if json_:
        show_json({"recipe": loaded.name, "checkpoints": [str(path) for path in paths]})
    else:
        click.echo("\n".join(f"wrote {path}" for path in paths))
        click.echo(f"next: edgeprune build --target onnx-cpu --checkpoint {paths[-1]}")


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Data set: a name or a YAML file.")
@click.option("--split", default="train", show_default=True)
@click.option("--frames", default=64, show_default=True, type=CALIBRATION_FRAMES)
@click.option("--out", type=click.Path(path_type=Path), help="Default: calib-<checkpoint>.yaml beside the checkpoint.")
@as_json
def calibrate(checkpoint: Path, data: str, split: str, frames: int, out: Path | None, json_: bool) -> None:
    """Measure a CHECKPOINT's gate thresholds, occupancy and INT8 ranges on frames."""
    from edgeprune.model.card import read_header

    path = out or checkpoint.with_name(f"calib-{checkpoint.stem}.yaml")
    own([path], [checkpoint, data])
    read_header(checkpoint)
    spec = parse(Calibration, {"data": data, "split": split, "frames": frames}, "options")
    open_calibration(spec)
    from edgeprune.quantize.calibrate import calibrate as measure
    from edgeprune.quantize.calibrate import write_calib
    from edgeprune.quantize.loading import load

    model, card = load(checkpoint)
    calib = measure(model, spec, card.name)
    write_calib(path, calib)
    if json_:
        show_json({"calib": str(path)} | calib.model_dump())
    else:
        click.echo(f"wrote {path}: {len(calib.frames)} frames of {data} {split}")


SELECTION_COLUMNS = {
    "selection": ("selection", ""),
    "seed": ("seed", ""),
    "tokens": ("tokens", ".1%"),
    "miou": ("mIoU", ".4f"),
}
DECISION_COLUMNS = {
    "decision": ("decision", "d"),
    "block": ("before block", "d"),
    "kept": ("kept", ".1%"),
    "returned": ("of them let go before", ".1%"),
}
INT8_COLUMNS = {
    "int8": ("in INT8", ""),
    "miou": ("mIoU", ".4f"),
    "lost_points": ("points under float", ".2f"),
    "agreement": ("equal selection", ".2%"),
    "agreement_by_gate": ("gate by gate", ""),
}


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--data", required=True, help="Data set: a name or a YAML file.")
@click.option("--split", default="val", show_default=True)
@click.option("--include", multiple=True, help="Glob over file stems, to score one drive alone.")
@click.option("--frames", type=FRAMES, help="Score so many, evenly spread; default: all.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(0, 1_000), help="Draws of random selection.")
@click.option("--calib", type=click.Path(path_type=Path), help="For the row at calibrated thresholds.")
@click.option(
    "--bypass-from", type=click.IntRange(1, 1_000), help="Dense models: score the first so many blocks alone."
)
@click.option("--detail", is_flag=True, help="Also the boundary F (at the model's size), classes, tokens that return.")
@click.option("--int8", is_flag=True, help="Instead: what INT8 costs, by ranges, NNCF's algorithms, kind of layer.")
@as_json
def probe(
    checkpoint: Path,
    data: str,
    split: str,
    include: tuple[str, ...],
    frames: int | None,
    seeds: int,
    calib: Path | None,
    bypass_from: int | None,
    detail: bool,
    int8: bool,
    json_: bool,
) -> None:
    """Score a CHECKPOINT with other selections: all tokens, learned, random, uniform, gated blocks bypassed."""
    from edgeprune.model.card import read_header

    if int8:
        refuse_beside("--int8", ("seeds", "calib", "bypass_from", "detail"))
    read_header(checkpoint)
    data_set = load_data_set(data)
    samples = open_split(data_set, split, list(include) or ["*"])
    beside = checkpoint.with_name(f"calib-{checkpoint.stem}.yaml")
    calib = calib or (beside if beside.is_file() else None)
    measured = read_calib(calib) if calib and not int8 else None
    if int8 and split == "train" and not include:
        raise InputError("--int8 calibrates on the train split; to score frames of it, name them with --include")
    from edgeprune.lab.ablate import probe as run_probe
    from edgeprune.lab.ablate import probe_int8
    from edgeprune.quantize.loading import load

    model, _ = load(checkpoint)
    if int8:
        spec = parse(Calibration, {"data": data, "split": "train", "exclude": list(include)}, "options")
        result = probe_int8(model, data_set, samples, spec, frames)
        if json_:
            show_json(result)
        else:
            show_table(result["rows"], INT8_COLUMNS)
        return
    result = run_probe(model, data_set, samples, measured, frames, seeds, bypass_from, detail)
    if json_:
        show_json(result)
        return
    show_table(result["rows"], SELECTION_COLUMNS | ({"boundary_f": ("boundary F", ".4f")} if detail else {}))
    if detail:
        names = data_set.names
        by_class = [
            {"selection": row["selection"], "seed": row["seed"], **row["per_class_iou"]} for row in result["rows"]
        ]
        heads = {name: (name[:8], ".3f") for name in names}
        show_table(by_class, {"selection": ("selection", ""), "seed": ("seed", "")} | heads)
        if "decisions" in result:
            show_table(result["decisions"], DECISION_COLUMNS)
    if "depth_is_worth_points" in result:
        click.echo(f"bypassing the gated blocks costs {result['depth_is_worth_points']:.1f} points of mIoU")
