"""`scaling`: what a larger input costs."""

from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path

import click

from edgeprune.base.owning import own
from edgeprune.base.table import write_csv, write_json
from edgeprune.cli.defaults import open_default
from edgeprune.cli.engines import known_engines
from edgeprune.cli.options import json_option, option, threads_option
from edgeprune.cli.ranges import FRAMES, ROUNDS
from edgeprune.cli.show import show_json, show_table
from edgeprune.cli.verb import verb
from edgeprune.evaluate.plot import drawn
from edgeprune.lab.scaling import measure_scaling, refuse_one_size
from edgeprune.lab.scaling_plot import plot_scaling
from edgeprune.runtime.compiling import single_graphs
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.preparing import prepare_run, refuse_threads

SCALING_COLUMNS = {
    "height": ("height", "d"),
    "width": ("width", "d"),
    "tokens": ("tokens", ",d"),
    "series": ("graph", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "speedup_vs_dense_fp32": ("x dense FP32", ".2f"),
    "peak_mb": ("peak MB", ".0f"),
}
EXPONENT_COLUMNS = {
    "series": ("graph", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "tokens": ("tokens", ""),
    "latency": ("latency ~ tokens^", ".2f"),
    "memory": ("memory ~ tokens^", ".2f"),
}


@dataclass(frozen=True, kw_only=True)
class ScalingOptions:
    bundles: tuple[Path, ...] = option(
        "--bundle", default=MISSING, help="One per input size (`edgeprune build --size 512x512`); repeatable."
    )
    rounds: int = option("--rounds", ROUNDS, default=5)
    frames: int = option("--frames", FRAMES, default=4, help="Frames of a round.")
    engines: tuple[str, ...] = option("--engine", default=(), help="Default: the target's; repeatable.")
    threads: int | None = threads_option()
    out: Path | None = option("--out", help="Folder for scaling.csv, scaling.json and scaling.png.")
    json: bool = json_option()


@verb(
    "scaling",
    ScalingOptions,
    [
        "edgeprune scaling --bundle out/bundles/street-tiny-onnx-cpu --bundle out/bundles/512x640",
        "edgeprune scaling --bundle out/bundles/256x256 --bundle out/bundles/512x640 --rounds 9 --out out/scaling",
    ],
)
def scaling(options: ScalingOptions) -> None:
    """Time and memory of every graph against the input size.

    Over bundles of one model at several sizes.
    """
    own([options.out], options.bundles, folders=True)
    opened, chosen = [open_default(bundle) for bundle in options.bundles], known_engines(options.engines)
    refuse_one_size(opened)
    for index, bundle in enumerate(opened):
        engines = chosen or [bundle.manifest.target.engine]
        refuse_threads(engines, options.threads)
        for engine in engines:
            opened[index] = prepare_run(opened[index], engine, single_graphs(bundle))
    result = measure_scaling(
        opened,
        options.rounds,
        open_meter("none"),
        engines=chosen or None,
        threads=options.threads,
        frames=options.frames,
    )
    pictures: list[Path] = []
    if options.out:
        write_csv(options.out / "scaling.csv", result.rows)
        write_json(options.out / "scaling.json", result)
        pictures = drawn(partial(plot_scaling, result.rows), options.out / "scaling.png")
    if options.json:
        show_json(result)
        return
    show_table(result.rows, SCALING_COLUMNS)
    if result.exponents:
        show_table(result.exponents, EXPONENT_COLUMNS)
    if options.out:
        names = ["scaling.json", *(path.name for path in pictures)]
        click.echo(f"wrote {options.out / 'scaling.csv'}, {', '.join(names)}")
