"""The summary of a run: figures that its per-frame rows give, and what stands beside them."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edgeprune.base.statistics import Percentiles, percentiles
from edgeprune.runtime.budget.kept import BudgetFigures
from edgeprune.runtime.figures import EnergyPerFrame, Overhead
from edgeprune.runtime.remembered_tokens import MemoryFigures
from edgeprune.runtime.renewal import Renewals
from edgeprune.runtime.row import STAGES, Ledger
from edgeprune.runtime.thing_counts import ThingFigures


@dataclass(frozen=True)
class RunFigures:
    """What the rows alone tell; None where no row tells.

    Attributes:
        frames: processed.
        newest: so many of them, the newest, are what percentiles, budget and overhead are of; a long run does not hold all.
        offered: that the source gave until the last one was taken, as it numbers them: `frames` and `dropped` together, if
            every one that is lost is counted.
        dropped: lost between them.
        fps: frames over the time from the first start to the last end.
        latency_ms: frame in hand to labels in hand.
        age_ms: how old a frame is when its labels are in hand: from its capture (`capture_ns`) on.
        stages_ms: of each of STAGES, over the frames for which it ran.
        tokens_mean: tokens per frame, summed over the blocks.
        buckets: how many frames each had.
        things: of each class of which there was one, by its name; None where the task counts none.
        memory: of the frames that remembered; None without.
    """

    frames: int
    newest: int
    offered: int
    dropped: int
    fps: float | None
    latency_ms: Percentiles
    age_ms: Percentiles
    stages_ms: dict[str, Percentiles]
    tokens_mean: float | None
    buckets: dict[str, int]
    things: dict[str, ThingFigures] | None = None
    memory: MemoryFigures | None = None


@dataclass(frozen=True)
class CameraFigures:
    """The camera of a run: its URI without secrets, its nominal rate, how many frames were left out as damaged, how often
    it was lost and came back, and what decoded its frames last (`h264 via vaapi`; None where nothing is decoded)."""

    uri: str
    fps: float | None
    live: bool
    damaged: int
    reconnects: int
    decoder: str | None = None


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """What the summary of every run says, of one camera or of several.

    Attributes:
        budget: how far it was kept; None without one.
        token_share: of the tokens that the dense model processes.
        bundle: the folder that was opened, without links: where one leads now may be another bundle, which was refused.
        engine: `Session.describe()`.
        chosen_by: what chose the bucket of a frame that no budget made smaller: a key of CHOOSERS, or one bucket for all.
        machine: `describe_machine()`.
        temperature_c: of each sensor, `before` and `after`.
        ended: `finished`, `interrupted` or `failure`.
        failure: why, in a line.
        renewals: what became of new bundles; None where none were looked for. What stands here of the bundle and the engine is
            of the last that ran.
    """

    figures: RunFigures
    budget: BudgetFigures | None
    energy: EnergyPerFrame
    token_share: float | None
    overhead: Overhead
    bundle: str
    model: str
    engine: dict[str, Any]
    chosen_by: str
    machine: dict[str, Any]
    temperature_c: dict[str, dict[str, float]]
    ended: str
    failure: str | None
    renewals: Renewals | None = None


@dataclass(frozen=True, kw_only=True)
class RunSummary(WholeRun):
    """A run of one camera.

    Attributes:
        outputs: where each output lies, by its key in SINKS; None for one that was not asked for, or is gone.
        pipeline: what was done beside the graphs, a key of PIPELINES.
    """

    outputs: dict[str, str | None]
    camera: CameraFigures
    pipeline: str = "off"

    def to_json(self) -> dict[str, Any]:
        """One JSON object: figures and outputs are keys of their own."""
        content = asdict(self)
        figures, outputs = content.pop("figures"), content.pop("outputs")
        return {**figures, **outputs, **content, "warm_up": self.engine["warm_up"]}


def summarise_run(rows: Ledger) -> RunFigures:
    """The figures that rows give: sums over all of them, percentiles over those that the ledger holds."""
    seconds = (rows.last_ns - rows.first_ns) / 1e9
    return RunFigures(
        frames=rows.frames,
        newest=len(rows),
        offered=rows.offered,
        dropped=rows.dropped,
        fps=rows.frames / seconds if seconds > 0 else None,
        latency_ms=percentiles(rows.ms("latency_ms")),
        age_ms=percentiles((rows.ns("end_ns") - rows.ns("capture_ns")) / 1e6),
        stages_ms={stage: _percentiles_of_stage(rows, stage) for stage in STAGES},
        tokens_mean=rows.tokens / rows.frames if rows.frames else None,
        buckets=rows.buckets(),
        things=rows.things.figures(),
        memory=rows.memory.figures(),
    )


def _percentiles_of_stage(rows: Ledger, stage: str) -> Percentiles:
    times_ms = rows.ms(f"{stage}_ms")
    return percentiles(times_ms[~np.isnan(times_ms)])
