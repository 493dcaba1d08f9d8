"""`/metrics`: a run's sums for Prometheus, in base units (seconds), read from the publisher when they are asked for."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from edgeprune.runtime.page.publisher import LATENCY_BOUNDS_S, Publisher, Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A collector in a registry of its own: what else the process has stays out.

    Args:
        cameras: of the run, by their names; where they have names, these are the label `camera` of what is of one.
        viewers: how many watch the stream.
    """

    def __init__(self, cameras: Mapping[str, Publisher], viewers: Callable[[], int]):
        self._cameras, self._viewers = cameras, viewers
        self._several = not set(cameras) <= {""}
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)  # type: ignore[arg-type]

    def text(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """None beforehand: prometheus-client would collect them to know their names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Every metric, at this moment."""
        families: dict[str, Any] = {}
        for name, publisher in self._cameras.items():
            self._collect(families, [name] if self._several else [], publisher)
        yield from families.values()
        rows = [shown.row for publisher in self._cameras.values() if (shown := publisher.shown)]
        watts = max(rows, key=lambda row: row.end_ns).watts if rows else None
        if watts is not None:
            yield GaugeMetricFamily(
                "edgeprune_power_watts",
                "Power of the machine, a mean of the second before the newest frame.",
                value=watts,
            )
        # each publisher has those of the whole run, and no camera them alone
        faults = max((publisher.faults for publisher in self._cameras.values()), default=0)
        yield CounterMetricFamily("edgeprune_faults", "Lines that the run warned of.", value=faults)
        yield GaugeMetricFamily("edgeprune_viewers", "Who watch the stream.", value=self._viewers())

    def _collect(self, families: dict[str, Any], own: list[str], publisher: Publisher) -> None:
        """Adds a camera's to the families, which are begun with the first. `own`: its label's value, where it has one."""

        def family(kind: Any, name: str, about: str, *labels: str) -> Any:
            named = ["camera"] * len(own) + list(labels)
            return families.setdefault(name, kind(f"edgeprune_{name}", about, labels=named))

        taken = publisher.take()
        totals = taken.totals
        frames = family(CounterMetricFamily, "frames", "Frames processed, by bucket.", "bucket")
        about = publisher.about
        for bucket in dict.fromkeys([*(about.shares if about else ()), *totals.buckets]):
            frames.add_metric([*own, bucket], totals.buckets[bucket])
        counts = {
            "dropped_frames": ("Frames of a live camera that came too fast.", totals.dropped),
            "damaged_frames": ("Frames left out because they decode badly.", publisher.damaged),
            "tokens": ("Tokens processed, summed over the blocks.", totals.tokens),
        }
        for name, (said, count) in counts.items():
            family(CounterMetricFamily, name, said).add_metric(own, count)
        stages = family(CounterMetricFamily, "stage_seconds", "Time in each stage of the loop.", "stage")
        for stage, ms in totals.stages_ms.items():
            stages.add_metric([*own, stage], ms / 1000)
        family(HistogramMetricFamily, "latency_seconds", "Frame in hand to labels in hand.").add_metric(
            own, _bounds(totals), totals.latency_ms / 1000
        )
        up = family(GaugeMetricFamily, "up", "1 while frames come, else 0.")
        up.add_metric(own, 0 if publisher.silence() else 1)
        if taken.shown:
            age_s = time.monotonic() - taken.shown.row.end_ns / 1e9
            family(GaugeMetricFamily, "frame_age_seconds", "Since the newest frame was done.").add_metric(own, age_s)
            share = taken.shown.result.facts.token_share
            said = "Of the dense model's tokens, in the newest frame."
            family(GaugeMetricFamily, "token_share", said).add_metric(own, share)
            if (things := taken.shown.row.things) is not None:
                of_class = family(GaugeMetricFamily, "things", "Things in the newest frame, by class.", "class")
                for name in about.names if about else things:
                    of_class.add_metric([*own, name], things.get(name, 0))


def _bounds(totals: Totals) -> list[tuple[str, float]]:
    """Frames within each bound of LATENCY_BOUNDS_S, and all of them."""
    bounds, count = [], 0
    for index, bound_s in enumerate(LATENCY_BOUNDS_S):
        count += totals.latencies[index]
        bounds.append((str(bound_s), float(count)))
    return [*bounds, ("+Inf", float(totals.frames))]
