"""The summary of a run of several cameras: each one's own, and that of all of them together."""

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from edgeprune.base.errors import RunError
from edgeprune.runtime.budget.kept import BudgetFigures
from edgeprune.runtime.summary import CameraFigures, RunFigures, WholeRun


@dataclass(frozen=True)
class CameraSummary:
    """One camera of them.

    Attributes:
        figures: of its frames; recomputable from its own record.
        budget: how far the latency of its frames was kept; None without such a limit. Of the others see all cameras'.
        outputs: where each of its outputs lies, by its key in SINKS; None for one that was not asked for, or is gone.
        ended: `finished`, `interrupted`, `failure`, or `no frame`: the run finished before this camera had its first.
        failure: why, in a line.
    """

    figures: RunFigures
    budget: BudgetFigures | None
    outputs: dict[str, str | None]
    camera: CameraFigures
    ended: str
    failure: str | None

    def to_json(self) -> dict[str, Any]:
        """Figures and outputs are keys of their own, as in a run of one camera."""
        content = asdict(self)
        figures, outputs = content.pop("figures"), content.pop("outputs")
        return {**figures, **outputs, **content}


@dataclass(frozen=True, kw_only=True)
class SeveralSummary(WholeRun):
    """All of them together.

    Attributes:
        cameras: each one's own, by its name.
        figures: of all frames, in the order in which they were processed.
        budget: as the engine held it: its rate is that of all cameras. None without one.
        energy: the machine's, over the frames of all cameras.
        failure: of each camera that was lost, in a line.
        others: as of `WholeRun`.
    """

    cameras: dict[str, CameraSummary]

    def to_json(self) -> dict[str, Any]:
        """One JSON object: the figures of all are keys of its own, those of a camera stand under `cameras`."""
        content = asdict(self)
        figures = content.pop("figures")
        content["cameras"] = {name: each.to_json() for name, each in self.cameras.items()}
        return {**figures, **content, "warm_up": self.engine["warm_up"]}


class SeveralOutcome(NamedTuple):
    """What a run gives: its summary, and the failure of the cameras that were lost (exit code 3), if one was."""

    summary: SeveralSummary
    failure: RunError | None
