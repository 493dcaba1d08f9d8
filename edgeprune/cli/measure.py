"""`eval` and `bench`: what the compiled graphs are worth, and what they cost."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.owning import own
from edgeprune.base.table import plain, write_csv, write_json
from edgeprune.bundle import DENSE, GRAPH_SETS, Bundle
from edgeprune.bundle.onnx_files import check_external
from edgeprune.cli.defaults import open_default
from edgeprune.cli.engines import known_engines
from edgeprune.cli.options import bundle_option, json_option, option, threads_option
from edgeprune.cli.ranges import FRAMES, ROUNDS
from edgeprune.cli.show import Columns, show_json, show_table, show_wide_table
from edgeprune.cli.verb import verb
from edgeprune.data import Samples
from edgeprune.data.datasets import load_data_set
from edgeprune.data.split import folders_of
from edgeprune.evaluate.accuracy import AccuracyRow, evaluate, metric_of, open_scored
from edgeprune.evaluate.bench import BenchResult, with_accuracy
from edgeprune.evaluate.bench import bench as run_bench
from edgeprune.evaluate.graphs import AUTO, GraphSelection
from edgeprune.evaluate.plot import Point, drawn, plot_latency
from edgeprune.evaluate.tasks import METRICS
from edgeprune.runtime.compiling import single_graphs
from edgeprune.runtime.preparing import open_sensor, prepare_run, refuse_threads, require_engine

EVAL_COLUMNS = {  # then those of the metric
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "tokens": ("tokens", ",.0f"),
    "token_share": ("of dense", ".1%"),
}
BENCH_COLUMNS = {  # then those of the metric
    "graph": ("graph", ""),
    "bucket": ("bucket", ""),
    "precision": ("precision", ""),
    "engine": ("engine", ""),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "latency_ms.p95": ("p95 ms", ".1f"),
    "speedup_vs_dense_fp32": ("x dense FP32", ".2f"),
    "speedup_spread.least": ("min", ".2f"),
    "speedup_spread.most": ("max", ".2f"),
    "mj_per_frame": ("mJ/frame", ".1f"),
    "peak_mb": ("peak MB", ".0f"),
}


def check_baselines(bundle: Bundle, baselines: Sequence[Path]) -> None:
    """A baseline's row goes by the name of its file: refuses one that another row has."""
    taken = {DENSE, AUTO, *(bucket.name for bucket in bundle.manifest.buckets)}
    for path in baselines:
        if path.stem in taken:
            raise InputError(f"--baseline {path}: a row {path.stem!r} is there already; give the file another name")
        taken.add(path.stem)
        check_external(path)


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    data: str = option("--data", default=MISSING, help="Data set: a name (camvid, street), a folder or a YAML file.")
    bundle: Path | None = bundle_option()
    split: str = option("--split", default="val")
    include: tuple[str, ...] = option(
        "--include", default=(), help="Glob over file stems, to score one drive alone; repeatable."
    )
    frames: int | None = option("--frames", FRAMES, help="Score so many, evenly spread; default: all.")
    precisions: tuple[str, ...] = option(
        "--precision", click.Choice(GRAPH_SETS), default=(), help="Repeatable; default: all that were built."
    )
    engines: tuple[str, ...] = option("--engine", default=(), help="Default: the target's; repeatable.")
    out: Path | None = option("--out", help="Write the rows as CSV; a file that is there is replaced.")
    json: bool = json_option()


@verb(
    "eval",
    EvalOptions,
    [
        "edgeprune eval --data street --frames 24",
        "edgeprune eval --bundle out/bundles/mine --data my-set.yaml --out out/eval.csv",
    ],
)
def eval_(options: EvalOptions) -> None:
    """Score the graphs on labelled frames.

    Dense, every bucket, and what a run chooses.
    """
    opened = open_default(options.bundle)
    data_set = load_data_set(options.data)
    own([options.out], [opened.folder], among=[options.data, *folders_of(data_set, options.split)])
    samples = open_scored(opened.manifest.task, data_set, options.split, list(options.include) or ["*"])
    engines = known_engines(options.engines) or [opened.manifest.target.engine]
    for engine in engines:
        require_engine(opened, engine)
    for engine in engines:
        opened = prepare_run(opened, engine, single_graphs(opened))
    graphs = GraphSelection(options.precisions)
    results = [evaluate(opened, samples, data_set, graphs, engine=engine, frames=options.frames) for engine in engines]
    rows = [row.to_json() for result in results for row in result.rows]
    if options.out:
        write_csv(options.out, rows)
    first = results[0]
    if options.json:
        described = {result.engine["engine"]: result.engine for result in results}
        about = {"frames": first.frames, "threads": first.threads, "scored_share": first.scored_share}
        show_json(about | {"engines": described, "rows": rows})
        return
    show_scores(rows)
    for line in METRICS[opened.manifest.task].notes(data_set):
        click.echo(line)
    if first.scored_share is not None:
        click.echo(f"scored: {first.scored_share:.1%} of the pixels, those inside the bundle's region")
    if options.out:
        click.echo(f"wrote {options.out}")


def show_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    """The table, and one of the classes."""
    metric = metric_of(rows[0])
    assert metric is not None  # `evaluate` made them by one
    show_table(rows, {**EVAL_COLUMNS, **metric.columns})
    figure, called = metric.by_class
    names = list(rows[0][figure])
    by_class = [
        {"bucket": row["bucket"], "precision": row["precision"], "engine": row["engine"], **row[figure]} for row in rows
    ]
    keys = {"bucket": ("bucket", ""), "precision": ("precision", "")}
    if len({row["engine"] for row in rows}) > 1:
        keys |= {"engine": ("engine", "")}
    click.echo(f"{called} by class:")
    show_wide_table(by_class, keys, {name: (name[:16], ".3f") for name in names})


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    bundle: Path | None = bundle_option()
    rounds: int = option("--rounds", ROUNDS, default=5, help="Interleaved rounds over all graphs.")
    frames: int = option("--frames", FRAMES, default=20, help="Frames of a round.")
    data: str | None = option(
        "--data", help="Frames, and accuracy, of a data set; default: the synthetic street, without accuracy."
    )
    split: str = option("--split", default="val", needs="data")
    engines: tuple[str, ...] = option(
        "--engine", default=(), help="Default: the target's; repeatable, the first one's dense FP32 is 1.0x."
    )
    baselines: tuple[Path, ...] = option(
        "--baseline",
        default=(),
        help="A single graph of other making (`edgeprune baselines`), timed and scored beside; repeatable.",
    )
    threads: int | None = threads_option()
    meter: str | None = option("--meter", help="Energy meter, as of `run`; default: the target's.")
    out: Path | None = option("--out", help="Folder for CSV, JSON and a plot of accuracy against latency.")
    json: bool = json_option()


@verb(
    "bench",
    BenchOptions,
    ["edgeprune bench", "edgeprune bench --data street --engine onnxruntime --engine openvino --out out/bench"],
    moved={"--peer": "--baseline", "--roofline": "edgeprune roofline"},
)
def bench(options: BenchOptions) -> None:
    """Time every bucket and precision against dense FP32.

    Each graph in its own process.
    """
    opened = open_default(options.bundle)
    own([options.out], [opened.folder, *options.baselines], folders=True, among=[options.data])
    if options.data is not None:
        open_scored(opened.manifest.task, load_data_set(options.data), options.split)  # before minutes of compiling
    result = measure(opened, options)
    paths = write_bench(result, options.out) if options.out else []
    if options.json:
        show_json(result)
        return
    show_bench(result)
    for path in paths:
        click.echo(f"wrote {path}")


def measure(
    bundle: Bundle, options: BenchOptions, scored: int | None = None, precisions: Sequence[str] | None = None
) -> BenchResult:
    """Accuracy where there is data, then speed.

    Args:
        scored: so many frames of the data; all by default.
        precisions: all of the bundle by default.
    """
    engines = known_engines(options.engines) or [bundle.manifest.target.engine]
    for engine in engines:
        require_engine(bundle, engine)
    refuse_threads(engines, options.threads)
    sensor = open_sensor(bundle, options.meter)
    check_baselines(bundle, options.baselines)
    for engine in engines:
        bundle = prepare_run(bundle, engine, [*single_graphs(bundle), *options.baselines])
    graphs = GraphSelection(precisions, options.baselines, options.threads)
    samples: Samples | None = None
    scores: list[AccuracyRow] = []
    if options.data is not None:
        data_set = load_data_set(options.data)
        samples = open_scored(bundle.manifest.task, data_set, options.split)
        for engine in engines:
            scores += evaluate(bundle, samples, data_set, graphs, engine=engine, frames=scored).rows
    timed = run_bench(bundle, options.rounds, sensor, graphs, engines=engines, samples=samples, frames=options.frames)
    return with_accuracy(timed, scores)


def about_bench(result: BenchResult) -> list[str]:
    """What stands under the table: what it was measured on, and what its columns are."""
    return [
        f"{result.rounds} rounds of {result.source}, {result.threads} threads; {result.energy_status}",
        "x dense FP32: the speed-up, its median over the rounds; min, max: of the speed-up over the rounds",
        f"stem and head take {result.stem_head_share:.1%} of the dense FP32 time",
    ]


def bench_columns(result: BenchResult) -> Columns:
    """Times, then the figures that the metric of the bundle's task has beside them."""
    metric = metric_of(result.rows[0].figures)
    if metric is None:
        return BENCH_COLUMNS
    return BENCH_COLUMNS | {f"figures.{name}": metric.columns[name] for name in metric.brief}


def show_bench(result: BenchResult) -> None:
    """The table, and what there is to say of it."""
    show_table(result.rows, bench_columns(result))
    for line in about_bench(result):
        click.echo(line)


def write_bench(result: BenchResult, folder: Path) -> list[Path]:
    """Table as CSV, everything as JSON, and, where it is known, accuracy against latency as a plot for each engine."""
    paths = [folder / "bench.csv", folder / "bench.json"]
    spreads = [{"speedup_min": row.speedup_spread.least, "speedup_max": row.speedup_spread.most} for row in result.rows]
    write_csv(paths[0], [plain(row) | spread for row, spread in zip(result.rows, spreads, strict=True)])
    write_json(paths[1], result)
    metric = metric_of(result.rows[0].figures)
    if metric is None:
        return paths
    points: dict[str, list[Point]] = {}
    for row in result.rows:
        accuracy = row.figures[metric.figure]
        if row.bucket and accuracy is not None:
            mark = row.bucket if row.bucket in (DENSE, AUTO) else "graph"
            point = Point(row.latency_ms.p50, 100 * accuracy, row.bucket, row.precision, mark)
            points.setdefault(row.engine, []).append(point)
    for engine, of_engine in points.items():
        path = folder / (f"bench-{engine}.png" if len(paths) > 2 else "bench.png")
        paths += drawn(partial(plot_latency, {f"{metric.columns[metric.figure][0]} (%)": of_engine}), path)
    return paths
