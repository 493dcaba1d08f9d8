"""What is measured of a run as a whole, whether it has one camera or several: from before its first row to after its last."""

from collections.abc import Mapping

from edgeprune.base.machine import describe_machine, temperatures_c
from edgeprune.runtime.budget.kept import budget_figures
from edgeprune.runtime.figures import energy_per_frame, overhead
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.row import Ledger
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.summary import WholeRun, summarise_run
from edgeprune.runtime.thermometer import Thermometer


class Measured:
    """Its energy and its temperatures.

    Args:
        meter: not started yet.
        idle_w: what the machine takes when idle, by rail, to subtract; None: that was not measured.
    """

    def __init__(self, meter: Meter, idle_w: Mapping[str, float] | None = None):
        self.meter, self._idle_w = meter, idle_w

    def begin(self) -> None:
        self._before_c = temperatures_c()
        self.meter.start()
        self._thermometer = Thermometer(self._before_c)

    def now(self) -> tuple[float | None, float | None]:
        """Watts, and degrees Celsius of the hottest zone, this moment; None where nothing tells."""
        return self.meter.watts(), self._thermometer.hottest_c

    def end(self) -> None:
        """No thread of a meter is left behind. Raises what `Meter.stop` does."""
        self._thermometer.stop()
        self._energy = self.meter.stop()

    def whole(self, stream: Stream, rows: Ledger, ended: str, failure: Exception | None) -> WholeRun:
        """What a summary says of all frames. `ended`: how, where no failure was the end of it."""
        figures = summarise_run(rows)
        return WholeRun(
            figures=figures,
            budget=budget_figures(stream.budget, rows) if stream.budget else None,
            energy=energy_per_frame(self._energy, rows.frames, self._idle_w),
            token_share=stream.token_share(figures.tokens_mean),
            overhead=overhead(rows),
            bundle=str(stream.bundle.led_to or stream.bundle.folder),
            model=stream.bundle.manifest.name,
            engine=stream.describe(),
            chosen_by=stream.chosen_by,
            machine=describe_machine(),
            temperature_c={"before": self._before_c, "after": temperatures_c()},
            ended="failure" if failure else ended,
            failure=str(failure) if failure else None,
            renewals=stream.renewals,
        )
