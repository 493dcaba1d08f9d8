"""What a comparison holds, and how one that is done is read again: its rows, how they were timed, and what was said of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.base.reading import Strict, parse
from edgeprune.base.statistics import Extremes, Latency
from edgeprune.base.strict_json import parse_json
from edgeprune.base.table import optional_where
from edgeprune.bundle import DENSE
from edgeprune.evaluate.accuracy import metric_of
from edgeprune.evaluate.tasks import METRICS, Metric

Measure = Literal["miou", "boundary_f", "small_things_miou", "mask_ap", "mask_ap50", "mask_ap_small", "box_ap"]
# what rows of each task are judged by, its metric's brief figures, and what a person calls it; "small things": their mIoU
MEASURES: dict[Measure, str] = {
    cast(Measure, name): metric.columns[name][0] for metric in METRICS.values() for name in metric.brief
}
Kind = Literal["dense", "pruned", "peer"]
Share = Annotated[float, Field(ge=0, le=1)]
MOST_MS = 1e9  # of a frame: eleven days


def _of_its_task(measure: Measure) -> Mapping[str, Any]:
    """Metadata of a figure, which is no key of the rows of another task."""
    return optional_where(lambda row: measure not in row.metric.brief)


@dataclass(frozen=True)
class ComparedRow:
    """A row of the plan in one precision on one engine: means over the seeds. None where unknown.

    Attributes:
        kind: `pruned` by a policy, `dense`, or a `peer`, a network of another making.
        seeds: how many of the plan's it was trained with, the first ones.
        miou, boundary_f, small_things_miou, mask_ap, mask_ap50, mask_ap_small, box_ap: 0 to 1, and so are those `by_seed`, in
            the order of the plan's seeds; of one task alone, and no keys of the rows of another.
        points_under_dense: mIoU, or mask AP, of the dense row less its own, paired by seed.
        token_share, gmacs, mj_per_frame: of a frame; `gmacs` in 1e9 multiply-adds.
        parameters: of the network, quantizers not counted.
        note: why the method has no graphs, and so no times.
        speedup_vs_dense: over the dense row of the same precision and engine, the median over the rounds.
        peak_mb: of the process that was timed, resident: engine, graphs and frames.
        points_over_controls: its mIoU, or mask AP, less that of a dense model of its latency, see `add_controls`.
        points_spread, speedup_spread, controls_spread: the extremes, over seeds or rounds.
        fronts: the measures by which it is on the Pareto front of its precision and engine; `fronts_of_all`: of all rows.
        bundle: the folder of the first seed's.
    """

    row: str
    policy: str
    kind: Kind
    precision: str
    seeds: int
    miou: float | None = field(default=None, kw_only=True, metadata=_of_its_task("miou"))
    points_under_dense: float
    points_spread: Extremes
    by_seed: dict[Measure, Annotated[list[Share], Field(min_length=1)]]
    parameters: int
    boundary_f: float | None = field(default=None, metadata=_of_its_task("boundary_f"))
    small_things_miou: float | None = field(default=None, metadata=_of_its_task("small_things_miou"))
    token_share: float | None = None
    gmacs: float | None = None
    note: str | None = None
    engine: str | None = None
    latency_ms: Latency | None = None
    speedup_vs_dense: float | None = None
    speedup_spread: Extremes | None = None
    mj_per_frame: float | None = None
    peak_mb: float | None = None
    points_over_controls: float | None = None
    controls_spread: Extremes | None = None
    fronts: list[Measure] = field(default_factory=list)
    fronts_of_all: list[Measure] = field(default_factory=list)
    bundle: str | None = None
    mask_ap: float | None = field(default=None, metadata=_of_its_task("mask_ap"))
    mask_ap50: float | None = field(default=None, metadata=_of_its_task("mask_ap50"))
    mask_ap_small: float | None = field(default=None, metadata=_of_its_task("mask_ap_small"))
    box_ap: float | None = field(default=None, metadata=_of_its_task("box_ap"))

    @property
    def main(self) -> list[float]:
        """By seed the figure that precisions are chosen by: mIoU, or mask AP."""
        return self.by_seed[cast(Measure, self.metric.figure)]

    @property
    def metric(self) -> type[Metric]:
        """That of its task."""
        metric = metric_of(self.by_seed)
        assert metric is not None  # every row has it, or is refused
        return metric

    @property
    def key(self) -> tuple[str, str | None]:
        """What rows that are held against each other have in common."""
        return self.precision, self.engine


@dataclass(frozen=True)
class TimingRun:
    """How rows were timed: `frames` of a round, and `describe_machine`."""

    rounds: int
    frames: int
    threads: int
    machine: dict[str, Any]
    energy_status: str


@dataclass(frozen=True)
class Limits:
    """What a row to deploy may cost: `points` of a measure under dense, and `latency_ms` of the median frame; None: any."""

    points: Annotated[float, Field(ge=0, le=100)]
    latency_ms: Annotated[float, Field(gt=0, le=MOST_MS)] | None = None


class Measured(Strict):
    """A comparison as its compare.json has it, without what was said of it."""

    plan: dict[str, Any]
    timing: TimingRun
    limits: Limits
    rows: list[ComparedRow] = Field(min_length=1)


def read_comparison(path: Path) -> Measured:
    """A comparison from its compare.json. What earlier versions did not measure is None.

    Raises:
        InputError: it is not there, or is no comparison.
    """
    content = parse_json(read_text(path, "comparison"), f"comparison {path}", "compare the plan again")
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise InputError(f"comparison {path} has no rows; name the compare.json that `edgeprune compare` wrote")
    content["rows"] = [_as_now(row) for row in content["rows"]]
    content.setdefault("limits", {"points": content.get("limit_points")})
    measured = parse(Measured, {key: content[key] for key in Measured.model_fields if key in content}, str(path))
    for measure in MEASURES:
        counts = [(len(row.by_seed[measure]), row.seeds) for row in measured.rows if measure in row.by_seed]
        # an earlier version had one figure for all seeds of a row
        if len({found for found, _ in counts}) > 1 and any(found != said for found, said in counts):
            raise InputError(f"comparison {path}: rows have {measure} of different seeds; compare the plan again")
    metric = metric_of(measured.rows[0].by_seed) or METRICS["semantic"]
    called = metric.columns[metric.figure][0]
    for row in measured.rows:
        taken = row.latency_ms
        if metric_of(row.by_seed) is not metric or (taken and not (row.engine and 0 < taken.p50 <= MOST_MS)):
            raise InputError(
                f"comparison {path}: row {row.row} lacks its {called} or its engine, or takes no time that can be"
            )
    return measured


def _as_now(row: Any) -> Any:
    """A row of an earlier version with the keys of this one; of other measures than mIoU these had the mean alone."""
    if not isinstance(row, dict) or "miou_by_seed" not in row:
        return row
    by_seed = {"miou": row["miou_by_seed"]} | (
        {} if row.get("boundary_f") is None else {"boundary_f": [row["boundary_f"]]}
    )
    kept = {key: value for key, value in row.items() if key != "miou_by_seed"}
    return kept | {"kind": "dense" if row.get("policy") == DENSE else "pruned", "by_seed": by_seed}
