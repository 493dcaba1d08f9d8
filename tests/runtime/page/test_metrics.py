"""/metrics, as Prometheus' own parser reads it."""

import pytest

from tests.runtime.page.conftest import Answer, Serve, publish_counted


def samples_of(answer: Answer) -> dict[tuple[str, ...], float]:
    """(name, label values ...) -> value."""
    parser = pytest.importorskip("prometheus_client.parser")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = list(parser.text_string_to_metric_families(answer.text))
    assert all(family.documentation for family in families)
    return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


def test_sums_of_a_run(serve: Serve) -> None:
    served = serve()
    before = samples_of(served.ask("/metrics"))
    assert before["edgeprune_frames_total", "half"] == 0 and before["edgeprune_up",] == 0
    assert ("edgeprune_power_watts",) not in before
    served.publisher.warn("slow")
    served.publish(0, bucket="half", latency_ms=12.0, fit_ms=500.0, tokens=7, dropped=2)
    served.publish(1, bucket='odd"\n', latency_ms=9000.0, fit_ms=500.0, tokens=7, watts=4.5)
    samples = samples_of(served.ask("/metrics"))
    assert samples["edgeprune_frames_total", "half"] == samples["edgeprune_frames_total", 'odd"\n'] == 1
    assert (
        samples["edgeprune_dropped_frames_total",] == 2
        and samples["edgeprune_damaged_frames_total",] == 3
        and samples["edgeprune_power_watts",] == 4.5
    )
    assert samples["edgeprune_faults_total",] == 1 and samples["edgeprune_tokens_total",] == 14
    assert samples["edgeprune_stage_seconds_total", "fit"] == 1.0
    assert samples["edgeprune_latency_seconds_bucket", "0.01"] == 0
    assert (
        samples["edgeprune_latency_seconds_bucket", "0.02"] == samples["edgeprune_latency_seconds_bucket", "5.0"] == 1
    )
    assert samples["edgeprune_latency_seconds_bucket", "+Inf"] == samples["edgeprune_latency_seconds_count",] == 2
    assert samples["edgeprune_latency_seconds_sum",] == pytest.approx(9.012)
    assert samples["edgeprune_up",] == 1 and 0 <= samples["edgeprune_frame_age_seconds",] < 60
    assert samples["edgeprune_token_share",] == 1.0 and samples["edgeprune_viewers",] == 0


def test_nothing_of_the_process_is_in_it(serve: Serve) -> None:
    assert all(name.startswith("edgeprune_") for name, *_ in samples_of(serve().ask("/metrics")))


def test_things_of_the_newest_frame_where_they_are_counted(serve: Serve) -> None:
    served = serve()
    served.publish(0)
    assert ("edgeprune_things", "road") not in samples_of(served.ask("/metrics"))
    publish_counted(served.publisher, 1, {"sky": 3})
    samples = samples_of(served.ask("/metrics"))
    assert samples["edgeprune_things", "sky"] == 3 and samples["edgeprune_things", "road"] == 0
