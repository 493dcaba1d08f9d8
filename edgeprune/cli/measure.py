"""`eval` and `bench`: what the compiled graphs are worth, and what they cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError, choose
from edgeprune.base.table import write_csv, write_json
from edgeprune.bundle import DENSE, Bundle
from edgeprune.bundle.onnx_files import check_external
from edgeprune.cli.defaults import PRECISIONS, open_default
from edgeprune.cli.device import open_sensor, prepare_run, require_engine
from edgeprune.cli.owning import own
from edgeprune.cli.ranges import FRAMES, ROUNDS, THREADS
from edgeprune.cli.show import as_json, refuse_beside, show_json, show_table
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.split import folders_of
from edgeprune.evaluate.accuracy import AUTO, evaluate
from edgeprune.evaluate.bench import bench as run_bench
from edgeprune.evaluate.bench import bench_frames
from edgeprune.evaluate.plot import plot_miou_latency
from edgeprune.lab.roofline import roofline as roofline_of
from edgeprune.runtime.compiling import single_graphs
from edgeprune.runtime.engines import ENGINES

EVAL_COLUMNS = {
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "tokens": ("tokens", ",.0f"),
    "token_share": ("of dense", ".1%"),
    "miou": ("mIoU", ".4f"),
    "pixel_accuracy": ("pixel acc", ".4f"),
    "boundary_f": ("boundary F", ".4f"),
}
ROOFLINE_COLUMNS = {
    "group": ("operators", ""),
    "nodes": ("nodes", "d"),
    "ms": ("ms", ".2f"),
    "gmacs": ("GMAC", ".3f"),
    "mbytes": ("MB", ".1f"),
    "floor_ms": ("floor ms", ".2f"),
    "reached": ("reached", ".0%"),
}
BENCH_COLUMNS = {
    "graph": ("graph", ""),
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "latency_ms.p95": ("p95 ms", ".1f"),
    "speedup_vs_dense_fp32": ("x dense FP32", ".2f"),
    "speedup_min": ("min", ".2f"),
    "speedup_max": ("max", ".2f"),
    "mj_per_frame": ("mJ/frame", ".1f"),
    "peak_mb": ("peak MB", ".0f"),
    "miou": ("mIoU", ".4f"),
}


def known_engines(names: Sequence[str]) -> list[str]:
    """Refuses an unknown engine before anything runs."""
    for name in names:
        choose(ENGINES, name, "engine")
    return list(names)


def check_peers(bundle: Bundle, peers: Sequence[Path]) -> None:
    """A peer's row goes by the name of its file: refuses one that another row has."""
    taken = {DENSE, AUTO, *(bucket.name for bucket in bundle.manifest.buckets)}
    for path in peers:
        if path.stem in taken:
            raise InputError(f"--peer {path}: a row {path.stem!r} is there already; give the file another name")
        taken.add(path.stem)
        check_external(path)


@click.command("eval")
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: out/bundles/street-tiny-onnx-cpu.")
@click.option("--data", required=True, help="Data set: a name (camvid, street) or a YAML file.")
@click.option("--split", default="val", show_default=True)
@click.option("--include", multiple=True, help="Glob over file stems, to score one drive alone; repeatable.")
@click.option("--frames", type=FRAMES, help="Score so many, evenly spread; default: all.")
@click.option("--precision", "precisions", multiple=True, type=click.Choice(PRECISIONS))
@click.option("--engine", "engines", multiple=True, help="Default: the target's; repeatable.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the rows as CSV.")
@as_json
def eval_(
    bundle: Path | None,
    data: str,
    split: str,
    include: tuple[str, ...],
    frames: int | None,
    precisions: tuple[str, ...],
    engines: tuple[str, ...],
    out: Path | None,
    json_: bool,
) -> None:
    """Score the compiled graphs on labelled frames: dense, every bucket, and what a run chooses."""
    opened = open_default(bundle)
    data_set = load_data_set(data)
    own([out], [opened.folder, data, *folders_of(data_set, split)])
    samples = open_split(data_set, split, list(include) or ["*"])
    chosen = known_engines(engines) or [opened.manifest.target.engine]
    for engine in chosen:
        require_engine(opened, engine)
    for engine in chosen:
        opened = prepare_run(opened, engine, single_graphs(opened))
    results = [
        evaluate(opened, samples, data_set, engine=engine, precisions=list(precisions) or None, frames=frames)
        for engine in chosen
    ]
    result = {
        "frames": results[0]["frames"],
        "threads": results[0]["threads"],
        "engines": {one["engine"]["engine"]: one["engine"] for one in results},
        "rows": [row for one in results for row in one["rows"]],
    }
    if out:
        write_csv(out, result["rows"])
    if json_:
        show_json(result)
        return
    show_table(result["rows"], EVAL_COLUMNS)
    names = list(result["rows"][0]["per_class_iou"])
    shown = [
        {"bucket": row["bucket"], "precision": row["precision"], "engine": row["engine"], **row["per_class_iou"]}
        for row in result["rows"]
    ]
    what = {"bucket": ("bucket", ""), "precision": ("", "")} | ({"engine": ("", "")} if len(engines) > 1 else {})
    show_table(shown, what | {name: (name[:8], ".3f") for name in names})
    if out:
        click.echo(f"wrote {out}")


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Default: out/bundles/street-tiny-onnx-cpu.")
@click.option("--rounds", default=5, show_default=True, type=ROUNDS, help="Interleaved rounds over all graphs.")
@click.option("--frames", default=20, show_default=True, type=FRAMES, help="Frames of a round.")
@click.option("--data", help="Frames, and mIoU, of a data set; default: the synthetic street, without mIoU.")
@click.option("--split", default="val", show_default=True)
@click.option(
    "--engine", "engines", multiple=True, help="Default: the target's; repeatable, the first one's dense FP32 is 1.0x."
)
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A single INT8 graph of other making (`edgeprune peers`), timed and scored beside; repeatable.",
)
@click.option("--threads", type=THREADS, help="Default: the target's.")
@click.option("--meter", help="Energy meter; default: the target's.")
@click.option(
    "--roofline",
    is_flag=True,
    help="Instead: what each group of operators costs in ONNX Runtime, on one frame, against this machine's peaks.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Folder for bench.csv, bench.json and bench.png.")
@as_json
def bench(
    bundle: Path | None,
    rounds: int,
    frames: int,
    data: str | None,
    split: str,
    engines: tuple[str, ...],
    peers: tuple[Path, ...],
    threads: int | None,
    meter: str | None,
    roofline: bool,
    out: Path | None,
    json_: bool,
) -> None:
    """Time every bucket and precision against dense FP32, each graph in its own process."""
    opened = open_default(bundle)
    own([out], [opened.folder, data, *peers], folders=True)
    if data is not None:
        open_split(load_data_set(data), split)  # before minutes of compiling
    if roofline:
        refuse_beside("--roofline", ("rounds", "frames", "meter", "peers"))
        for name in known_engines(engines):
            if name != "onnxruntime":
                raise InputError(
                    f"--roofline reads ONNX Runtime's profile and knows nothing of {name}; leave --engine out"
                )
        show_roofline(opened, data, split, threads, out, json_)
        return
    result = measure(opened, rounds, frames, data, split, threads, meter, engines=engines, peers=peers)
    paths = write_bench(result, out) if out else []
    if json_:
        show_json(result)
        return
    show_bench(result)
    for path in paths:
        click.echo(f"wrote {path}")


def show_roofline(
    bundle: Bundle, data: str | None, split: str, threads: int | None, out: Path | None, json_: bool
) -> None:
    """The table of `roofline`, on the first frame of the data."""
    samples = open_split(load_data_set(data), split) if data else None
    _, frames_FHW3 = bench_frames(bundle, samples, 1)
    result = roofline_of(bundle, frames_FHW3[0], threads)
    if out:
        write_csv(out / "roofline.csv", result["rows"])
    if json_:
        show_json(result)
        return
    for graph, precision in dict.fromkeys((row["graph"], row["precision"]) for row in result["rows"]):
        rows = [row for row in result["rows"] if (row["graph"], row["precision"]) == (graph, precision)]
        click.echo(f"\n{graph} {precision}" + ("" if graph in ("dense", "trunk") else " (trunk and tail)"))
        show_table(rows, ROOFLINE_COLUMNS)
    peaks = result["peaks"]
    click.echo(
        f"\nONNX Runtime, {result['threads']} threads; peaks measured just before: fp32 {peaks['fp32_gmacs']:.0f}, "
        f"int8 {peaks['int8_gmacs']:.0f} GMAC/s, copy {peaks['copy_gbytes']:.0f} GB/s"
    )
    if out:
        click.echo(f"wrote {out / 'roofline.csv'}")


def measure(
    bundle: Bundle,
    rounds: int,
    frames: int,
    data: str | None,
    split: str = "val",
    threads: int | None = None,
    meter: str | None = None,
    scored: int | None = None,
    engines: Sequence[str] = (),
    peers: Sequence[Path] = (),
    only: str | None = None,
) -> dict[str, Any]:
    """Accuracy where there is data (on `scored` frames, all by default), then speed; of one precision or of all."""
    engines = known_engines(engines) or [bundle.manifest.target.engine]
    for engine in engines:
        require_engine(bundle, engine)
    sensor = open_sensor(bundle, meter)
    check_peers(bundle, peers)
    samples, accuracy = None, []
    for engine in engines:
        bundle = prepare_run(bundle, engine, [*single_graphs(bundle), *peers])
    if data is not None:
        data_set = load_data_set(data)
        samples = open_split(data_set, split)
        accuracy = [
            row
            for engine in engines
            for row in evaluate(
                bundle,
                samples,
                data_set,
                engine=engine,
                precisions=[only] if only else None,
                peers=peers,
                frames=scored,
            )["rows"]
        ]
    return run_bench(
        bundle,
        rounds,
        sensor,
        engines=engines,
        threads=threads,
        peers=peers,
        samples=samples,
        frames=frames,
        accuracy=accuracy,
        only=only,
    )


def flat_rows(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Bench rows with the spread of the speed-up as two columns."""
    return [
        {
            **row,
            "speedup_min": (row.get("speedup_spread") or [None])[0],
            "speedup_max": (row.get("speedup_spread") or [None])[-1],
        }
        for row in result["rows"]
    ]


def about_bench(result: Mapping[str, Any]) -> list[str]:
    """What stands under the table: what it was measured on, and what its columns are."""
    return [
        f"{result['rounds']} rounds of {result['source']}, {result['threads']} threads; {result['energy_status']}",
        "x dense FP32: the speed-up, its median over the rounds; min, max: of the speed-up over the rounds",
        f"stem and head take {result['stem_head_share']:.1%} of the dense FP32 time",
    ]


def show_bench(result: Mapping[str, Any]) -> None:
    """The table, and what there is to say of it."""
    show_table(flat_rows(result), BENCH_COLUMNS)
    for line in about_bench(result):
        click.echo(line)


def write_bench(result: Mapping[str, Any], folder: Path) -> list[Path]:
    """Table as CSV, everything as JSON, and, where mIoU is known, mIoU against latency as a plot for each engine."""
    paths = [folder / "bench.csv", folder / "bench.json"]
    write_csv(paths[0], flat_rows(result))
    write_json(paths[1], dict(result))
    engines = list(dict.fromkeys(row["engine"] for row in result["rows"] if row.get("miou") is not None))
    for engine in engines:
        paths.append(folder / ("bench.png" if engine == engines[0] else f"bench-{engine}.png"))
        plot_miou_latency([row for row in result["rows"] if row["engine"] == engine], paths[-1])
    return paths
