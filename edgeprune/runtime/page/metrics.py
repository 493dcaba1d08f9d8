"""`/metrics`: a run's sums for Prometheus, in base units (seconds), read from the publisher when they are asked for."""

import time
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from edgeprune.runtime.page.publisher import LATENCY_BOUNDS_S, Publisher, Totals

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """A collector in a registry of its own: what else the process has stays out.

    Args:
        publisher: of the run.
        viewers: how many watch the stream.
    """

    def __init__(self, publisher: Publisher, viewers: Callable[[], int]):
        self._publisher, self._viewers = publisher, viewers
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
        taken, about = self._publisher.take(), self._publisher.about
        totals = taken.totals
        frames = CounterMetricFamily("edgeprune_frames", "Frames processed, by bucket.", labels=["bucket"])
        for bucket in dict.fromkeys([*(about.shares if about else ()), *totals.buckets]):
            frames.add_metric([bucket], totals.buckets[bucket])
        yield frames
        yield CounterMetricFamily(
            "edgeprune_dropped_frames", "Frames of a live camera that came too fast.", totals.dropped
        )
        yield CounterMetricFamily(
            "edgeprune_damaged_frames", "Frames left out because they decode badly.", self._publisher.damaged
        )
        yield CounterMetricFamily("edgeprune_faults", "Lines that the run warned of.", totals.faults)
        yield CounterMetricFamily("edgeprune_tokens", "Tokens processed, summed over the blocks.", totals.tokens)
        stages = CounterMetricFamily("edgeprune_stage_seconds", "Time in each stage of the loop.", labels=["stage"])
        for stage, ms in totals.stages_ms.items():
            stages.add_metric([stage], ms / 1000)
        yield stages
        yield _latency(totals)
        yield GaugeMetricFamily("edgeprune_up", "1 while frames come, else 0.", value=not self._publisher.silence())
        if taken.shown:
            age_s = time.monotonic() - taken.shown.row.end_ns / 1e9
            yield GaugeMetricFamily("edgeprune_frame_age_seconds", "Since the newest frame was done.", value=age_s)
            share = taken.shown.result.facts.token_share
            yield GaugeMetricFamily(
                "edgeprune_token_share", "Of the dense model's tokens, in the newest frame.", value=share
            )
            if (watts := taken.shown.row.watts) is not None:
                yield GaugeMetricFamily(
                    "edgeprune_power_watts",
                    "Power of the machine, a mean of the second before the newest frame.",
                    value=watts,
                )
        yield GaugeMetricFamily("edgeprune_viewers", "Who watch the stream.", value=self._viewers())


def _latency(totals: Totals) -> Metric:
    """Frame in hand to labels in hand."""
    bounds, count = [], 0
    for index, bound_s in enumerate(LATENCY_BOUNDS_S):
        count += totals.latencies[index]
        bounds.append((str(bound_s), float(count)))
    bounds.append(("+Inf", float(totals.frames)))
    return HistogramMetricFamily(
        "edgeprune_latency_seconds",
        "Frame in hand to labels in hand.",
        buckets=bounds,
        sum_value=totals.latency_ms / 1000,
    )
