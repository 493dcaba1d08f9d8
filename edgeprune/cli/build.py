"""`build`: a checkpoint into a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.bundle import PRECISIONS, open_bundle
from edgeprune.bundle.target import Target, load_target
from edgeprune.cli.defaults import TARGET, bundle_folder, default_checkpoint
from edgeprune.cli.inspect import PARITY_COLUMNS, parity_rows
from edgeprune.cli.options import CHECKPOINT, json_option, option
from edgeprune.cli.ranges import parse_size
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.quantize.calib import Calib, read_calib

BUILDERS = ["onnx", "torch-tensorrt"]


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    target: str = option("--target", default=TARGET, help="A name (see `edgeprune targets`) or a YAML file.")
    checkpoint: Path | None = option(
        "--checkpoint", CHECKPOINT, help="A file, or zoo:NAME/FILE; default: zoo:street-tiny/qat."
    )
    precisions: tuple[str, ...] = option(
        "--precision", click.Choice(list(PRECISIONS)), default=(), help="Repeatable; default: the target's."
    )
    out: Path | None = option(
        "--out", help="Default: out/bundles/<model>-<target>; a bundle that is there is replaced."
    )
    calib: Path | None = option("--calib", help="Default: beside the checkpoint, else the shipped one.")
    reference: Path | None = option("--reference", CHECKPOINT, help="The dense FP32 model that speed is compared with.")
    builder: str = option(
        "--builder",
        click.Choice(BUILDERS),
        default="onnx",
        help="torch-tensorrt: on an NVIDIA GPU, also TensorRT's engines from PyTorch, into this machine's cache.",
    )
    size: str | None = option(
        "--size", metavar="HxW", help="Input size, in multiples of the patch; default: what the model was trained at."
    )
    confidence: bool = option(
        "--confidence", default=False, help="Graphs also say how sure each pixel is: a map beside the labels."
    )
    memory: bool = option(
        "--memory", default=False, help="Also graphs that remember the frames before, and compute what changed."
    )
    json: bool = json_option()


@verb(
    "build",
    BuildOptions,
    [
        "edgeprune build --target onnx-cpu",
        "edgeprune build --checkpoint out/train/street-short/qat.safetensors --target jetson-orin",
    ],
)
def build(options: BuildOptions) -> None:
    """Turn a checkpoint into a bundle of graphs for one target.

    Its buckets are graphs of constant shapes; each is compared with PyTorch before the bundle gets its name.
    """
    from edgeprune.model.card import read_header

    target = load_target(options.target)
    chosen = chosen_precisions(target, options.precisions)
    source, size = options.checkpoint or default_checkpoint(), options.size
    shape = parse_size(size, read_header(source)[0].model.patch) if size else None
    folder = options.out or bundle_folder(read_header(source)[0].name, f"{target.name}-{size}" if size else target.name)
    own([folder], [source, options.calib, options.reference], folders=True)
    if options.calib is not None:
        read_calib(options.calib)
    if options.reference is not None:
        read_header(options.reference)
    # torch takes seconds: what was given has been read
    from edgeprune.export.build import build as make_bundle
    from edgeprune.export.inputs import find_inputs
    from edgeprune.export.torch_tensorrt import build_plans, check_builder

    found = find_inputs(source, options.calib, options.reference, shape)
    inputs = replace(found, confidence=options.confidence, memory=options.memory)
    if options.builder == "torch-tensorrt":
        check_builder(target, chosen)
    manifest = make_bundle(target, inputs, chosen, folder)
    plans = build_plans(inputs, open_bundle(folder)) if options.builder == "torch-tensorrt" else []
    rows = parity_rows(manifest)
    if options.json:
        show_json(
            {
                "bundle": str(folder),
                "target": target.name,
                "buckets": [_bucket(row) for row in rows],
                "plans": [str(plan) for plan in plans],
            }
        )
        return
    show_table(rows, PARITY_COLUMNS)
    for path in (folder, *plans):
        click.echo(f"wrote {path}")
    click.echo(f"next: {what_next(target, folder, inputs.calib, manifest.provenance['parity_frames'])}")


def chosen_precisions(target: Target, asked: Sequence[str]) -> list[str]:
    """Those of the target that were asked for, in its order; all of them where none was.

    Raises:
        InputError: the target has no such precision.
    """
    for precision in asked:
        if precision not in target.precisions:
            raise InputError(
                f"target {target.name} has no precision {precision!r}; it has {', '.join(target.precisions)}"
            )
    return [precision for precision in target.precisions if not asked or precision in asked]


def _bucket(row: Mapping[str, Any]) -> dict[str, Any]:
    parity = {key: row[key] for key in ("max_abs", "label_agreement", "excluded", "selection_agreement")}
    return {"name": row["bucket"], "tokens": row["tokens"], "precision": row["precision"], "parity": parity}


def what_next(target: Target, folder: Path, calib: Calib | None, frames: str) -> str:
    """What to type of a bundle: on its device if it is another, else on what the model was calibrated on, if that is here.

    Args:
        frames: on which it was compared with PyTorch.
    """
    if target.compiled_on_device:
        return f"copy {folder} to the device and run there: edgeprune run --bundle {folder.name} --camera 0"
    if calib is not None and calib.split is None:
        return f"edgeprune run --bundle {folder} --camera {calib.data} --frames 100"
    if calib is not None and frames == f"{calib.data} {calib.split}":
        return f"edgeprune eval --bundle {folder} --data {calib.data}"
    return f"edgeprune run --bundle {folder} --camera synthetic://street?seed=1 --frames 100"
