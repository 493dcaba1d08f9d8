"""`build`, `peers`, `inspect`, `targets`."""

from importlib.util import find_spec
from pathlib import Path

import click

from edgeprune.base.errors import InputError
from edgeprune.base.reading import parse, shipped
from edgeprune.bundle import Manifest, open_bundle
from edgeprune.bundle.inspect import inspect as inspect_bundle
from edgeprune.bundle.target import load_target
from edgeprune.cli.defaults import bundle_folder, default_checkpoint
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import CALIBRATION_FRAMES, parse_size
from edgeprune.cli.show import as_json, show_json, show_table
from edgeprune.data.selection import Calibration
from edgeprune.data.split import open_calibration
from edgeprune.quantize.calib import read_calib
from edgeprune.runtime.engines import ENGINES

PARITY_COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "tokens": ("tokens", ",d"),
    "max_abs": ("largest logit error", ".2g"),
    "label_agreement": ("equal labels", ".3%"),
    "excluded": ("excluded", ".2%"),
    "selection_agreement": ("equal selection", ".2%"),
}


ENGINE_COLUMNS = {
    "engine": ("engine", ""),
    "p50_ms": ("auto ms", ".1f"),
    "agreement": ("equal labels", ".2%"),
    "reason": ("", ""),
}
PRECISION_COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "p50_ms": ("p50 ms", ".1f"),
    "loss_points": ("points under fp32", ".2f"),
    "chosen": ("taken", ""),
}


@click.command()
@click.option(
    "--target", default="onnx-cpu", show_default=True, help="A name (see `edgeprune targets`) or a YAML file."
)
@click.option("--checkpoint", type=click.Path(path_type=Path), help="Default: the zoo's street-tiny.")
@click.option(
    "--precision", "precisions", multiple=True, type=click.Choice(["int8", "fp16", "fp32"]), help="Repeatable."
)
@click.option("--out", type=click.Path(path_type=Path), help="Default: out/bundles/<model>-<target>.")
@click.option("--calib", type=click.Path(path_type=Path), help="Default: beside the checkpoint, else the shipped one.")
@click.option("--reference", type=click.Path(path_type=Path), help="The dense FP32 model that speed is compared with.")
@click.option(
    "--builder",
    type=click.Choice(["onnx", "torch-tensorrt"]),
    default="onnx",
    show_default=True,
    help="torch-tensorrt: on an NVIDIA GPU, also TensorRT's engines from PyTorch, into this machine's cache.",
)
@click.option("--size", metavar="HxW", help="Input size, in multiples of 16; default: what the model was trained at.")
@as_json
def build(
    target: str,
    checkpoint: Path | None,
    precisions: tuple[str, ...],
    out: Path | None,
    calib: Path | None,
    reference: Path | None,
    builder: str,
    size: str | None,
    json_: bool,
) -> None:
    """Turn a checkpoint into a bundle of static-bucket graphs, checked against PyTorch."""
    from edgeprune.model.card import read_header

    loaded = load_target(target)
    for precision in precisions:
        if precision not in loaded.precisions:
            raise InputError(
                f"target {loaded.name} has no precision {precision!r}; it has {', '.join(loaded.precisions)}"
            )
    source = checkpoint or default_checkpoint()
    shape = parse_size(size) if size else None
    folder = out or bundle_folder(read_header(source)[0].name, f"{loaded.name}-{size}" if size else loaded.name)
    own([folder], [source, calib, reference], folders=True)
    if calib is not None:
        read_calib(calib)
    if reference is not None:
        read_header(reference)
    chosen = [precision for precision in loaded.precisions if not precisions or precision in precisions]
    # torch takes seconds: what was given has been read
    from edgeprune.export.build import build as make_bundle
    from edgeprune.export.inputs import find_inputs
    from edgeprune.export.torch_tensorrt import build_plans, check_builder

    inputs = find_inputs(source, calib, reference, shape)
    if builder == "torch-tensorrt":
        check_builder(loaded, chosen)
    manifest = make_bundle(loaded, inputs, chosen, folder)
    plans = build_plans(inputs, open_bundle(folder)) if builder == "torch-tensorrt" else []
    rows = parity_rows(manifest)
    if json_:
        show_json(
            {
                "bundle": str(folder),
                "target": loaded.name,
                "buckets": [
                    {
                        "name": row["bucket"],
                        "tokens": row["tokens"],
                        "precision": row["precision"],
                        "parity": {
                            key: row[key] for key in ("max_abs", "label_agreement", "excluded", "selection_agreement")
                        },
                    }
                    for row in rows
                ],
                "plans": [str(plan) for plan in plans],
            }
        )
        return
    show_table(rows, PARITY_COLUMNS)
    for path in (folder, *plans):
        click.echo(f"wrote {path}")
    if loaded.compiled_on_device:
        click.echo(f"next: copy {folder} to the device and run there: edgeprune run --bundle {folder.name} --camera 0")
    else:
        click.echo(f"next: edgeprune run --bundle {folder} --camera synthetic://street?seed=1 --frames 100")


def parity_rows(manifest: Manifest) -> list[dict[str, object]]:
    """The parity table with each bucket's tokens, summed over blocks."""
    tokens = {bucket.name: bucket.token_layers for bucket in manifest.buckets}
    return [row.model_dump() | {"tokens": tokens[row.bucket]} for row in manifest.parity]


@click.command()
@click.option("--checkpoint", type=click.Path(path_type=Path), help="A dense FP32 one; default: the zoo's reference.")
@click.option("--data", required=True, help="Data set for calibration: a name or a YAML file.")
@click.option("--split", default="train", show_default=True)
@click.option("--frames", default=64, show_default=True, type=CALIBRATION_FRAMES)
@click.option("--target", default="onnx-cpu", show_default=True, help="Whose dialect of ONNX.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Also its INT8 buckets, trunk and tail joined into one graph each.",
)
@click.option("--out", default=Path("out/peers"), show_default=True, type=click.Path(path_type=Path))
def peers(
    checkpoint: Path | None,
    data: str,
    split: str,
    frames: int,
    target: str,
    bundle: Path | None,
    out: Path,
) -> None:
    """Make what you would deploy instead: the dense model in INT8 by other means, for `bench --peer`."""
    from edgeprune.model.card import read_header

    own([out], [checkpoint, bundle, data], folders=True)
    spec = parse(Calibration, {"data": data, "split": split, "frames": frames}, "options")
    source = checkpoint or default_checkpoint().with_name("reference.safetensors")
    read_header(source)
    open_calibration(spec)
    dialect = load_target(target).dialect
    opened = open_bundle(bundle) if bundle else None
    from edgeprune.lab.baselines import export_joined, export_peers

    paths = export_peers(source, spec, dialect, out)
    if opened is not None:
        paths += export_joined(opened, "int8", out)
    for path in paths:
        click.echo(f"wrote {path}")
    click.echo(f"next: edgeprune bench {' '.join(f'--peer {path}' for path in paths)}")


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@as_json
def inspect(bundle: Path, json_: bool) -> None:
    """Show what is in a BUNDLE, after verifying its hashes."""
    opened = open_bundle(bundle)
    content = inspect_bundle(opened)
    if json_:
        show_json(content)
        return
    click.echo(
        f"{content['name']} for {content['target']['name']} ({content['target']['engine']}), policy {content['policy']}, "
        f"input {content['input'][0]}x{content['input'][1]}, labels {content['labels'][0]}x{content['labels'][1]}, "
        f"{content['bytes'] / 1e6:.1f} MB"
    )
    show_table(
        content["buckets"],
        {
            "name": ("bucket", ""),
            "first": ("holds", ",d"),
            "counts": ("tokens per gated block", ""),
            "token_layers": ("tokens over blocks", ",d"),
            "token_share": ("of dense", ".1%"),
        },
    )
    show_table(parity_rows(opened.manifest), PARITY_COLUMNS)
    if content["engine_choice"]:
        show_table(content["engine_choice"], ENGINE_COLUMNS)
    if content["precision_choice"]:
        show_table(content["precision_choice"], PRECISION_COLUMNS)
    click.echo(f"a run takes {content['run']}")
    show_table(content["files"], {"file": ("file", ""), "bytes": ("bytes", ",d")})


@click.command()
@as_json
def targets(json_: bool) -> None:
    """List the targets, and say for each whether it can be built for, compiled for and run here."""
    builds = find_spec("torch") is not None
    rows = []
    for path in sorted(shipped("targets").glob("*.yaml")):
        target = load_target(path.stem)
        missing = ENGINES[target.engine].missing()
        runs = "no" if missing else "yes"
        here = {"build": "yes" if builds else "no", "compile": runs if target.compiled_on_device else "-", "run": runs}
        rows.append(target.model_dump() | here | {"missing": missing})
    if json_:
        show_json({"targets": rows})
        return
    columns = ("name", "engine", "build", "compile", "run", "requires", "summary")
    show_table(rows, {name: ("target" if name == "name" else name, "") for name in columns})
    if not builds:
        click.echo("to build: pip install 'edgeprune[train]'")
    for missing in dict.fromkeys(row["missing"] for row in rows if row["missing"]):
        click.echo(f"not run here: {missing}")
