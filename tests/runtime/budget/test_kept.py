"""What a summary says of a budget, from rows alone."""

from collections.abc import Mapping
from typing import Any

import pytest

from edgeprune.runtime.budget.kept import budget_figures
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.row import Ledger
from tests.runtime.rows import row


def ledger(*rows: Mapping[str, Any]) -> Ledger:
    found = Ledger()
    for index, values in enumerate(rows):
        found.add(row(index, **values))
    return found


def test_latency_is_judged_frame_by_frame() -> None:
    late = {"latency_ms": 40.0}
    rows = ledger({"latency_ms": 10.0}, late, late, {"latency_ms": 33.0}, late, *[{"latency_ms": 20.0}] * 15)
    figures = budget_figures(parse_budget("33ms"), rows)
    assert figures.held == {"ms": 17 / 20} and figures.longest_over == {"ms": 2}
    assert figures.p95 == {"ms": 40.0} and figures.budget == "33ms"


def test_a_rate_is_judged_by_the_loops_own_work_on_the_mean_of_frames() -> None:
    """Rows come every 10 ms; of the first ones 2 ms are waiting, of the others 6."""
    rows = ledger(*[{"wait_ms": 2.0 if index < 40 else 6.0} for index in range(100)])
    figures = budget_figures(parse_budget("125fps"), rows)
    assert figures.held["fps"] == pytest.approx(0.98, abs=0.03)
    assert budget_figures(parse_budget("130fps"), rows).held["fps"] == pytest.approx(0.6, abs=0.03)
    assert budget_figures(parse_budget("300fps"), rows).held["fps"] == 0.0


def test_power_and_energy_are_judged_where_a_meter_has_shown_something() -> None:
    """10 ms from frame to frame: 8 W are 80 mJ."""
    rows = ledger(*[{"watts": None}] * 30, *[{"watts": 8.0}] * 69)
    figures = budget_figures(parse_budget("7.9W,81mJ"), rows)
    assert figures.held == {"W": 0.0, "mJ": 1.0} and figures.judged == {"W": 40, "mJ": 40}
    assert figures.p95["W"] == pytest.approx(8.0) and figures.p95["mJ"] == pytest.approx(80.0, rel=0.01)
    assert budget_figures(parse_budget("9W"), ledger({}, {})).held == {"W": None}


def test_frames_that_got_less_than_they_asked_for_are_counted() -> None:
    rows = ledger({"asked": "full", "bucket": "half"}, {}, {}, {"asked": "half", "bucket": "half"})
    assert budget_figures(parse_budget("1ms"), rows).capped == 0.25
    assert budget_figures(parse_budget("1ms"), Ledger()).capped is None
