"""The figures of the page, as JSON holds them; made at most once in a while however many ask."""

import json
import time
from collections.abc import Mapping
from typing import Any

from edgeprune.base.statistics import percentiles
from edgeprune.runtime.page.pictures import Pictures
from edgeprune.runtime.page.publisher import WINDOW_S, Publisher, Recent, Taken
from edgeprune.runtime.row import STAGES

FRESH_S = 0.4  # an answer may be as old
BIN_S = 1.0  # of a point of the charts


class Figures:
    """What `/stats` answers; one thread at a time.

    Args:
        camera: the name of the camera that they are of.
        cameras: of the run, by their names.
        pictures: of its viewers.
    """

    def __init__(self, camera: str, cameras: Mapping[str, Publisher], pictures: Pictures):
        self._cameras, self._publisher, self._pictures = cameras, cameras[camera], pictures
        self._chosen: dict[str, Any] = {"name": camera} if camera else {}
        self._points: dict[int, dict[str, Any]] = {}  # of the seconds that are over
        self._made_s = float("-inf")
        self._json = b""

    def json(self, viewers: int) -> bytes:
        """`viewers`: how many watch the stream."""
        now_s = time.monotonic()
        if now_s - self._made_s > FRESH_S:
            self._json = json.dumps(self._content(viewers), allow_nan=False).encode()
            self._made_s = now_s
        return self._json

    def _content(self, viewers: int) -> dict[str, Any]:
        taken, about, source = self._publisher.take(), self._publisher.about, self._publisher.source
        return {
            "run": round(self._publisher.began_s, 3),
            "silence": self._publisher.silence(),
            "model": about and about.model,
            "engine": about and about.engine,
            "energy": about and about.energy,
            "camera": self._chosen | {"uri": source.uri, "fps": source.fps, "live": source.live},
            "cameras": [_camera(name, publisher) for name, publisher in self._cameras.items() if name],
            "viewers": viewers,
            "frames": taken.totals.frames,
            "dropped": taken.totals.dropped,
            "damaged": self._publisher.damaged,
            "faults": {
                "count": taken.totals.faults,
                "last": [{"at_s": round(each.at_s, 3), "line": each.line} for each in taken.faults],
            },
            "frame": _frame(taken),
            "token_map": _token_map(taken) if self._publisher.map_tokens() else None,
            "window": self._window(taken.recent),
            "buckets": self._buckets(taken),
            "classes": self._classes(),
        }

    def _window(self, recent: list[Recent]) -> dict[str, Any]:
        """The last minute: frames per second, percentiles, and a point a second for the charts, by its age."""
        now_s = time.monotonic()
        seconds: dict[int, list[Recent]] = {}
        for each in recent:
            seconds.setdefault(int(each.at_s // BIN_S), []).append(each)
        known = self._points
        points = {second: known.get(second) or _point(frames) for second, frames in seconds.items()}
        self._points = {second: point for second, point in points.items() if second < now_s // BIN_S - 1}
        spent_s = recent[-1].at_s - recent[0].at_s if len(recent) > 1 else 0.0
        latency = percentiles([each.latency_ms for each in recent])
        watts = _mean([each.watts for each in recent])
        return {
            "seconds": WINDOW_S,
            "fps": round((len(recent) - 1) / spent_s, 2) if spent_s > 0 else None,
            "dropped": sum(each.dropped for each in recent),
            "latency_ms": {"p50": _short(latency.p50), "p95": _short(latency.p95)},
            "watts": watts,
            "mj_per_frame": self._mj_per_frame(watts),
            "points": [
                {"age_s": round(now_s - (second + 0.5) * BIN_S, 2), **point} for second, point in sorted(points.items())
            ],
        }

    def _mj_per_frame(self, watts: float | None) -> float | None:
        """Power over the frames of a second: it is the machine's, so they are those of all cameras, of the same minute."""
        ends_s = [each.at_s for publisher in self._cameras.values() for each in publisher.take().recent]
        if watts is None or len(ends_s) < 2:
            return None
        return round(1000 * watts * (max(ends_s) - min(ends_s)) / (len(ends_s) - 1), 3)

    def _buckets(self, taken: Taken) -> list[dict[str, Any]]:
        """The bundle's buckets, by their share of the tokens; in one without `about` those that were used."""
        about = self._publisher.about
        shares = about.shares if about else dict.fromkeys(taken.totals.buckets, 0.0)
        return [
            {"name": name, "token_share": round(share, 4), "frames": taken.totals.buckets[name]}
            for name, share in shares.items()
        ]

    def _classes(self) -> list[dict[str, Any]]:
        """Of the newest picture that was drawn: shares of all its pixels, those without a class included, and how many things
        there are of each, where they are counted."""
        picture, about = self._pictures.last, self._publisher.about
        if picture is None:
            return []
        names = about.names if about else ()
        every = sum(picture.pixels)
        classes: list[dict[str, Any]] = []
        for index, colour in enumerate(picture.palette):
            name = names[index] if index < len(names) else str(index)
            said = {"name": name, "rgb": list(colour), "pixel_share": round(picture.pixels[index] / every, 4)}
            classes.append(said if picture.counts is None else said | {"count": picture.counts.get(name, 0)})
        return classes


def _camera(name: str, publisher: Publisher) -> dict[str, Any]:
    """One of several: enough to choose it, and to see that it lives."""
    shown = publisher.shown
    return {
        "name": name,
        "uri": publisher.source.uri,
        "frames": shown.number if shown else 0,
        "silence": publisher.silence(),
    }


def _frame(taken: Taken) -> dict[str, Any] | None:
    """The newest frame."""
    if taken.shown is None:
        return None
    row = taken.shown.row
    return {
        "index": row.index,
        "name": row.name,
        "latency_ms": row.latency_ms,
        "stages_ms": {stage: getattr(row, f"{stage}_ms") for stage in STAGES},
        "bucket": row.bucket,
        "tokens": row.tokens,
        "token_share": round(taken.shown.result.facts.token_share, 4),
        "remembered": row.remembered and row.remembered._asdict(),
        "confidence": row.confidence,
        "things": row.things and dict(row.things),
    }


def _token_map(taken: Taken) -> dict[str, Any]:
    """What the first decision made of the tokens, where the newest frame has it: how many are left, of how many, and whether
    cells merge, or tokens are let go."""
    found = taken.shown.result.facts.token_map if taken.shown else None
    if found is None:
        return {"left": None, "of": None, "merges": None}
    return {"left": found.left, "of": found.tokens, "merges": found.decision.merges}


def _point(recent: list[Recent]) -> dict[str, Any]:
    """One of the charts."""
    latency = percentiles([each.latency_ms for each in recent])
    return {
        "frames": len(recent),
        "dropped": sum(each.dropped for each in recent),
        "p50_ms": _short(latency.p50),
        "p95_ms": _short(latency.p95),
        "token_share": round(sum(each.token_share for each in recent) / len(recent), 4),
        "watts": _mean([each.watts for each in recent]),
    }


def _mean(watts: list[float | None]) -> float | None:
    """Of those that a sensor told."""
    told = [each for each in watts if each is not None]
    return round(sum(told) / len(told), 3) if told else None


def _short(value: float | None) -> float | None:
    """Of milliseconds no more digits than mean anything."""
    return None if value is None else round(value, 3)
