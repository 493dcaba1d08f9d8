"""Presentation times of a file's frames: one clock that only goes forward."""

from typing import Any

# FFmpeg's own program starts its clock anew at such a leap (its option dts_delta_threshold, in seconds).
LEAP_S = 10.0
TS_DISCONTINUOUS = 0x0200  # AVFMT_TS_DISCONT of libavformat/avformat.h


class PresentationClock:
    """PyAV's frames, in the order they are shown -> seconds from the start of the file.

    Where times go back, two recordings were joined: the second goes on where the first ended. Where they leap ahead in a
    format whose times may (MPEG-TS and its kin), likewise; in others a gap is a gap.
    """

    def __init__(self, container: Any, stream: Any):
        self._start_s = (container.start_time or 0) / 1e6
        self._may_leap = bool(getattr(container.format, "flags", 0) & TS_DISCONTINUOUS)
        self._interval_s = float(1 / stream.average_rate) if stream.average_rate else 0.04
        self._last_s: float | None = None
        self._shift_s = 0.0

    def __call__(self, frame: Any) -> float | None:
        """When it is shown; None where the file has no times."""
        ticks = frame.dts if frame.pts is None else frame.pts
        if ticks is None or frame.time_base is None:
            return None
        shown_s = float(ticks * frame.time_base) - self._start_s + self._shift_s
        if self._last_s is not None:
            step_s = shown_s - self._last_s
            if step_s <= 0 or (self._may_leap and step_s > LEAP_S):
                self._shift_s += self._interval_s - step_s
                shown_s = self._last_s + self._interval_s
        self._last_s = shown_s
        return shown_s
