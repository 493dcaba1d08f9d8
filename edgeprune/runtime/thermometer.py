"""How hot the machine is while a run goes on."""

import threading
from collections.abc import Mapping

from edgeprune.base.machine import temperatures_c

PERIOD_S = 5.0


class Thermometer:
    """Reads the thermal zones every PERIOD_S, in a thread of its own: a sensor that answers late delays no frame.

    Attributes:
        hottest_c: degrees Celsius of the hottest zone at the last reading; None where none can be read.
    """

    def __init__(self, now_c: Mapping[str, float]):
        """`now_c`: what the zones say now."""
        self.hottest_c: float | None = max(now_c.values(), default=None)
        self._stop = threading.Event()
        if now_c:
            threading.Thread(target=self._run, name="thermometer", daemon=True).start()

    def stop(self) -> None:
        """Reads no more; does not wait for a reading that is under way."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self.hottest_c = max(temperatures_c().values(), default=None)
