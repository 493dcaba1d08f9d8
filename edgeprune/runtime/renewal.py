"""A new bundle under a run that goes on: verified and opened beside the old one, switched to between two frames, and rolled
back where its first frames fail.

A thread looks every few seconds at the folder, or at where the link leads. Another bundle there is hashed, opened, warmed
up and held to its reference frames in that thread, while the loop goes on with the old one. Until the new one has proven
itself both are open, and take memory for two.
"""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.ending import leave_behind
from edgeprune.base.errors import InputError, one_line
from edgeprune.base.statistics import percentiles
from edgeprune.bundle import Bundle, Manifest, open_bundle
from edgeprune.bundle.opening import read_manifest
from edgeprune.runtime.budget.wanted import Budget
from edgeprune.runtime.cameras.source import Frame
from edgeprune.runtime.running import Counted, Fitted, Running
from edgeprune.runtime.tasks import Result

logger = logging.getLogger(__name__)

LOOKS_S = 2.0  # between two looks; what is copied is taken when it is the same in two of them
TRIAL_FRAMES = 64  # that a new bundle has to get through
RECENT_FRAMES = 128  # of the old one, that it is compared with
CLOSE_TIMEOUT_S = 0.3  # a run is ended within a second

Identity = tuple[tuple[str, int, int, int], ...]


@dataclass
class Renewals:
    """What became of new bundles.

    Attributes:
        switched: how often one took the place of another.
        rolled_back: how many of these failed in their first frames, and gave the place back.
        refused: how many were never switched to.
        reason: of the last one that failed or was refused, in a line.
    """

    switched: int = 0
    rolled_back: int = 0
    refused: int = 0
    reason: str | None = None


def identity_of(folder: Path) -> Identity | None:
    """What tells a bundle's files from those of another, without reading them; None while there are none."""
    root = os.path.realpath(folder)
    found = []
    try:
        for place, _, names in os.walk(root):
            for name in names:
                about = os.stat(os.path.join(place, name))
                found.append((os.path.join(place, name), about.st_ino, about.st_size, about.st_mtime_ns))
    except OSError:  # it is just being replaced
        return None
    return tuple(sorted(found)) or None


@dataclass(frozen=True)
class _Place:
    """Where a bundle lay as it was opened, and its manifest, which has the hash of each file."""

    folder: Path
    manifest: Manifest

    @property
    def holds_it(self) -> bool:
        """Whether that bundle is what lies there now."""
        try:
            return read_manifest(self.folder) == self.manifest
        except InputError:
            return False


class Renewal:
    """The bundles of a run, one after the other. `process` and `close` are of the loop's thread.

    Args:
        bundle: what runs at first; its folder, or link, is looked at.
        begin: opens another one, as the first was opened; its errors refuse it.
        budget: of the run; a new bundle has to hold its latency and rate where the old one did.
        looks_s: between two looks.
        trial: frames that a new one has to get through.
    """

    def __init__(
        self,
        bundle: Bundle,
        begin: Callable[[Bundle], Running],
        budget: Budget | None = None,
        looks_s: float = LOOKS_S,
        trial: int = TRIAL_FRAMES,
    ):
        self.renewals = Renewals()
        self._first, self._begin, self._looks_s, self._trial = bundle, begin, looks_s, trial
        limits_ms = [budget.latency_ms, 1000 / budget.fps if budget.fps else None] if budget else []
        self._limit_ms = min((each for each in limits_ms if each), default=None)
        self._recent_ms: deque[float] = deque(maxlen=RECENT_FRAMES)  # of the bundle that has proven itself
        self._trial_ms: list[float] = []
        self._old: Running | None = None  # while its successor is on trial
        self._ready: Running | None = None  # opened, and not switched to yet
        self._opening = False
        self._lock = threading.Lock()
        self._closing = threading.Event()
        # of what runs, of what ran before it, and of what is ready
        self._runs = self._before = self._coming = _Place(Path(os.path.realpath(bundle.folder)), bundle.manifest)
        self._thread = threading.Thread(target=self._watch, name="new bundles", daemon=True)
        seen = identity_of(bundle.folder)
        self._seen = seen if self._runs.holds_it else None  # it may have been replaced by now
        self._thread.start()

    def process(
        self, running: Running, frame: Frame, before: Counted, ahead: Fitted | None = None
    ) -> tuple[Running, Result]:
        """A frame, by what runs, or by what takes its place now. `ahead`: see `Running.process`.

        Returns:
            what runs from here on, and the frame's result.

        Raises:
            whatever the graphs do, where no old bundle is there to go back to.
        """
        running, beside = self._next(running), self._opening
        began_ns = ahead.start_ns if ahead else time.monotonic_ns()
        try:
            result = running.process(frame, before, ahead)
        except Exception as error:  # of any engine
            if self._old is None:
                raise
            running = self._roll_back(running, str(error) or type(error).__name__)
            return running, running.process(frame, before, ahead, began_ns=began_ns)
        return self._judge(running, result.latency_ms, beside or self._opening), result

    def _next(self, running: Running) -> Running:
        """What is ready takes the place of what runs."""
        new = self._ready
        if new is None:
            return running
        with self._lock:
            self._old, self._ready = running, None
            self._before, self._runs = self._runs, self._coming
        if new.governor and running.governor:  # the machine's idle power was measured before the first bundle
            new.governor.idle_w = running.governor.idle_w
        self._trial_ms = []
        self.renewals.switched += 1
        logger.info(f"bundle {new.bundle.folder} takes the old one's place, for {self._trial} frames on trial")
        return new

    def _judge(self, running: Running, latency_ms: float, beside: bool) -> Running:
        """What runs after a frame: the new bundle, or the old one again.

        Args:
            beside: whether another was opened while the frame was computed, which slows it.
        """
        if self._old is None:
            if not beside:
                self._recent_ms.append(latency_ms)
            return running
        self._trial_ms.append(latency_ms)
        if len(self._trial_ms) < self._trial:
            return running
        before_ms, now_ms = percentiles(list(self._recent_ms)).p95, percentiles(self._trial_ms).p95
        limit_ms = self._limit_ms
        if limit_ms and before_ms and now_ms and before_ms <= limit_ms < now_ms:
            frames = f"95 of 100 of its first {self._trial} frames"
            reason = f"{frames} take up to {now_ms:.1f} ms, over the budget's {limit_ms:.1f}"
            return self._roll_back(running, f"{reason}, which the old one held with {before_ms:.1f}")
        logger.info(f"bundle {running.bundle.folder} has proven itself")
        self._old.close()
        self._recent_ms.clear()
        self._recent_ms.extend(self._trial_ms)
        with self._lock:
            self._old = None
        return running

    def _roll_back(self, failed: Running, why: str) -> Running:
        assert self._old
        old, failures = self._old, len(self._trial_ms) + 1
        at = "" if len(self._trial_ms) >= self._trial else f" at its frame {failures}"
        self.renewals.rolled_back += 1
        self.renewals.reason = one_line(f"bundle {failed.bundle.folder} failed{at}: {why}")
        logger.warning(f"{self.renewals.reason}; the old one goes on")
        with self._lock:
            self._old, self._runs = None, self._before
        failed.close()
        return old

    def _watch(self) -> None:
        """In the thread: looks, and opens what is new."""
        settling: Identity | None = None
        while not self._closing.wait(self._looks_s):
            found = identity_of(self._first.folder)
            if found is None or found == self._seen or found != settling:
                settling = found
                continue
            with self._lock:
                if self._ready or self._old:  # one at a time
                    continue
            self._seen, settling = found, None
            self._opening = True
            try:
                self._open()
            finally:
                self._opening = False

    def _open(self) -> None:
        folder = Path(os.path.realpath(self._first.folder))  # a link may lead elsewhere by the next frame
        # a link that leads back to it; a copy is another bundle, for the folder that it was copied from may go
        if folder == self._runs.folder and self._runs.holds_it:
            logger.info(f"bundle {folder} is what runs already; it goes on")
            return
        logger.info(f"a new bundle, {folder}; it is verified and opened while the old one goes on")
        try:
            bundle = self._verified(folder)
            new = self._begin(bundle)
            try:
                new.check()
            except BaseException:
                new.close()
                raise
        except Exception as error:  # of any engine
            self.renewals.refused += 1
            self.renewals.reason = one_line(f"bundle {folder} is refused: {str(error) or type(error).__name__}")
            logger.warning(f"{self.renewals.reason}; the old one goes on")
            return
        with self._lock:
            if not self._closing.is_set():
                self._ready, self._coming = new, _Place(folder, bundle.manifest)
                return
        new.close()

    def _verified(self, folder: Path) -> Bundle:
        """The bundle there, whose results mean what those of the first do: a record goes on with them.

        Raises:
            InputError: it is damaged, or of other classes or outputs.
        """
        bundle = open_bundle(folder)
        for what in ("task", "names", "palette", "outputs"):
            if getattr(bundle.manifest, what) != getattr(self._first.manifest, what):
                raise InputError(
                    f"its {what} are others than those that the run began with; stop the run and start it anew"
                )
        return bundle

    def close(self) -> None:
        """Looks no more, and closes what is not what runs."""
        with self._lock:
            self._closing.set()
            left = [each for each in (self._ready, self._old) if each]
            self._ready = self._old = None
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():  # it opens a bundle, and closes it itself where the process goes on
            leave_behind(self._thread)
        for each in left:
            each.close()
