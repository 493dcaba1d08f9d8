"""`compare`: token-reduction methods side by side, and what that says."""

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean

import click

from edgeprune.base.owning import own
from edgeprune.base.table import write_csv, write_json
from edgeprune.bundle import DENSE
from edgeprune.bundle.target import load_target
from edgeprune.cli.options import argument, cache_option, json_option, option, refuse_typed
from edgeprune.cli.ranges import LATENCY, POINTS
from edgeprune.cli.show import show_json, show_wide_table
from edgeprune.cli.verb import verb
from edgeprune.data.datasets import load_data_set
from edgeprune.evaluate.accuracy import open_scored
from edgeprune.evaluate.plot import Point, drawn, plot_latency
from edgeprune.evaluate.tasks import Metric
from edgeprune.lab.compare.comparison import MEASURES, Limits, Measure, read_comparison
from edgeprune.lab.compare.spec import read_plan
from edgeprune.lab.compare.verdict import Choice, Comparison, Gap, Payoff, Standing, Verdict, conclude
from edgeprune.train.recipe_file import load_recipe

logger = logging.getLogger(__name__)

MAIN, OTHERS = "main", "others"
KEYS = {"row": ("row", ""), "precision": ("precision", ""), "engine": ("engine", "")}
COMPARE_COLUMNS = {
    "kind": ("kind", ""),
    "policy": ("policy", ""),
    "seeds": ("seeds", "d"),
    MAIN: ("", ""),  # the figures of the rows' task: what precisions are chosen by, and below the others
    "points_under_dense": ("points under dense", ".2f"),
    OTHERS: ("", ""),
    "latency_ms.p50": ("p50 ms", ".1f"),
    "latency_ms.p95": ("p95 ms", ".1f"),
    "speedup_vs_dense": ("x dense", ".2f"),
    "mj_per_frame": ("mJ/frame", ".1f"),
    "peak_mb": ("peak MB", ".0f"),
    "parameters": ("parameters", ",d"),
    "token_share": ("tokens", ".1%"),
    "gmacs": ("GMAC", ".2f"),
    "points_over_controls": ("points over dense of its latency", "+.2f"),
    "fronts": ("on the front by", ""),
    "fronts_of_all": ("on that of all by", ""),
    "note": ("", ""),
}


@dataclass(frozen=True, kw_only=True)
class CompareOptions:
    plan: str = argument()
    points: float | None = option(
        "--points", POINTS, help="Points under dense that the row to deploy may score; default: the target's limit."
    )
    latency_ms: float | None = option("--latency-ms", LATENCY, help="Of the median frame of the row to deploy.")
    out: Path | None = option(
        "--out", help="Default: out/compare/<plan's name>; of a compare.json: nothing is written."
    )
    cache: Path | None = cache_option()
    json: bool = json_option()


@verb(
    "compare",
    CompareOptions,
    [
        "edgeprune compare camvid-brief --cache out/scenes",
        "edgeprune compare out/compare/camvid-brief/compare.json --latency-ms 20",
    ],
)
def compare(options: CompareOptions) -> None:
    """Train, build, score and time the rows of a PLAN.

    A name or a YAML file: token-reduction methods side by side. Resumes where it was stopped. Or the compare.json of a
    comparison that is done: what it says is said anew, nothing is trained or timed.
    """
    result, folder = _again(options) if options.plan.endswith(".json") else _run(options)
    paths = write_comparison(result, folder) if folder else []
    if options.json:
        show_json(result)
        return
    show_comparison(result)
    for path in paths:
        click.echo(f"wrote {path}")


def _again(options: CompareOptions) -> tuple[Comparison, Path | None]:
    """What a comparison that is done says, and where that is to be written."""
    path = Path(options.plan)
    refuse_typed(f"{path} is a comparison that is done", "cache")
    own([options.out], [path], folders=True)
    done = read_comparison(path)
    points = done.limits.points if options.points is None else options.points
    latency_ms = options.latency_ms or done.limits.latency_ms
    return conclude(done.plan, done.timing, done.rows, Limits(points, latency_ms)), options.out


def _run(options: CompareOptions) -> tuple[Comparison, Path]:
    """The comparison of a plan, and its folder."""
    _, written = read_plan(options.plan)
    recipe, target, score = load_recipe(written.recipe), load_target(written.target), written.score
    open_scored(recipe.model.task, load_data_set(score.data), score.split, score.include, score.exclude)
    # torch takes seconds: what was given has been read
    from edgeprune.lab.compare.plan import load_plan
    from edgeprune.lab.compare.run import run_comparison

    loaded = load_plan(options.plan)
    folder = options.out or Path("out/compare") / loaded.name
    own([folder], [options.plan, written.recipe, written.dense], folders=True)
    seeds = ", ".join(map(str, loaded.seeds))
    logger.info(f"{loaded.name}: {len(loaded.rows)} rows, seeds {seeds}; results in {folder}")
    points = target.accuracy_limit_points if options.points is None else options.points
    return run_comparison(loaded, Limits(points, options.latency_ms), folder, options.cache), folder


def write_comparison(result: Comparison, folder: Path) -> list[Path]:
    """The table as CSV, everything as JSON, and accuracy against latency as a plot for each engine."""
    paths = [folder / "compare.csv", folder / "compare.json"]
    write_csv(paths[0], result.rows)
    write_json(paths[1], result)
    panels: dict[str | None, dict[Measure, list[Point]]] = {}
    for row in result.rows:
        if row.latency_ms is None:
            continue
        mark = "smaller" if row.kind == "dense" and row.row != DENSE else row.kind
        of_engine = panels.setdefault(row.engine, {name: [] for name in MEASURES})
        for measure, values in row.by_seed.items():
            point = Point(row.latency_ms.p50, 100 * mean(values), row.row, row.precision, mark)
            of_engine[measure].append(point)
    for engine, by_measure in panels.items():
        named = {f"{MEASURES[name]} (%)": points for name, points in by_measure.items()}
        paths += drawn(partial(plot_latency, named), folder / f"compare-{engine}.png")
    return paths


def columns_of(metric: type[Metric]) -> dict[str, tuple[str, str]]:
    """Of the table, with the figures of a metric in their places."""
    main, *others = metric.brief
    placed = {MAIN: [main], OTHERS: others}
    return {
        name: metric.columns.get(name, column)
        for key, column in COMPARE_COLUMNS.items()
        for name in placed.get(key, [key])
    }


def show_comparison(result: Comparison) -> None:
    """The table, what its columns are, what it says, and the rows to deploy."""
    one_group = len({row.key for row in result.rows if row.latency_ms}) < 2
    left_out = {"fronts_of_all": one_group, "note": not any(row.note for row in result.rows)}
    metric = result.rows[0].metric
    columns = {name: column for name, column in columns_of(metric).items() if not left_out.get(name)}
    named = [
        vars(row) | {key: [MEASURES[name] for name in getattr(row, key)] for key in ("fronts", "fronts_of_all")}
        for row in result.rows
    ]
    show_wide_table(named, KEYS, columns)
    about = result.timing
    click.echo(
        f"{about.rounds} rounds of {about.frames} frames, {about.threads} threads; x dense: the dense row of the "
        f"same precision and engine; {about.energy_status}"
    )
    click.echo("dense of its latency: between the plan's dense rows (fewer blocks, lower input), trained as long")
    judged = {verdict.measure for verdict in result.verdicts}
    about_figures = [metric.legend, *(line for name, line in metric.unmeasured.items() if name not in judged)]
    for line in (*filter(None, about_figures), *verdict_lines(result)):
        click.echo(line)
    click.echo("judged on the frames it was scored on: check it on others before you trust the figure")


def verdict_lines(result: Comparison) -> list[str]:
    """What the rows of each precision and engine say by each measure, then all rows, and what to type to run what these say."""
    groups: dict[tuple[str | None, str | None], list[Verdict]] = {}
    for verdict in result.verdicts:
        groups.setdefault((verdict.precision, verdict.engine), []).append(verdict)
    lines = []
    for (precision, engine), verdicts in groups.items():
        where = f"{engine}, {precision}" if engine else "all rows, each in its best precision and engine"
        lines.append(f"{where}; means over seeds, least to most:")
        for verdict in verdicts:
            lines += [f"  {MEASURES[verdict.measure]}: {line}" for line in _said(verdict, result.limits)]
    if any(len(values) == 1 for row in result.rows for values in row.by_seed.values()):
        lines.append("a figure of one seed says not how far seeds lie apart: small differences may be none")
    if len({row.seeds for row in result.rows}) > 1:
        lines.append("rows have more seeds or fewer: a difference is of those that both have")
    last = next(reversed(groups.values()), [])
    chosen = [choice.chosen for verdict in last for choice in (verdict.at_points, verdict.at_latency) if choice]
    typed = [
        f"{each.row}: edgeprune run --bundle {each.bundle} --engine {each.engine} --precision {each.precision}"
        for each in chosen
        if each.bundle
    ]
    return lines + list(dict.fromkeys(typed))


def _said(verdict: Verdict, limits: Limits) -> list[str]:
    """What one verdict says, a line each."""
    among_all = verdict.engine is None
    fast, level = verdict.at_points, ", ".join(verdict.at_points.level)
    close = f"; faster, and past the limit by less than seeds lie apart: {level}" if level else ""
    lines = [f"at most {limits.points:g} points under dense: {_choice(fast, among_all)}{close}"]
    if limits.latency_ms is not None:
        best = verdict.at_latency
        level = ", ".join(best.level) if best else ""
        told = f"; within the spread of seeds: {level}" if level else ""
        lines.append(
            f"at most {limits.latency_ms:g} ms: {_choice(best, among_all) if best else 'no row is as fast'}{told}"
        )
    return lines + ([_payoff(verdict.payoff, among_all)] if verdict.payoff else [])


def _choice(choice: Choice, among_all: bool) -> str:
    row = choice.chosen
    value = f"{row.value:.4f}{_spread(row.spread.least, row.spread.most, '.4f')}"
    return f"{_named(row, among_all)}, p95 {row.p95_ms:.1f}: {value}, {_points(choice.under, 'under', 'over')} dense"


def _payoff(payoff: Payoff, among_all: bool) -> str:
    best = _named(payoff.best, among_all)
    if payoff.control is None or payoff.lead is None:
        beside = "faster than every dense row and peer"
    else:
        level = ", within the spread of seeds" if payoff.lead.apart is False else ""
        control = f"{payoff.control.kind} {_named(payoff.control, among_all)}"
        beside = f"{_points(payoff.lead, 'over', 'under')} {control}, the best that is as fast{level}"
    if payoff.rows:
        return f"pruning pays in {', '.join(payoff.rows)}: the most in {best}, {beside}"
    return f"no pruned row pays here: the best of them, {best}, is {beside}"


def _named(row: Standing, among_all: bool) -> str:
    where = f" ({row.precision}, {row.engine})" if among_all else ""
    return f"{row.row}{where} at {row.p50_ms:.1f} ms"


def _points(gap: Gap, more: str, less: str) -> str:
    """A gap as `0.30 points over`, with its extremes in the same direction."""
    sign, word = (1, more) if gap.points >= 0 else (-1, less)
    least, most = sorted((sign * gap.spread.least + 0.0, sign * gap.spread.most + 0.0))  # no -0.00
    return f"{abs(gap.points):.2f} points{_spread(least, most, '.2f')} {word}"


def _spread(least: float, most: float, form: str) -> str:
    return f" ({least:{form}} to {most:{form}})" if most > least else ""
