"""Lines of a run's summary, as a person reads them."""

from dataclasses import replace

import pytest

from edgeprune.cli.run_lines import show_budget, show_energy
from edgeprune.runtime.budget.kept import budget_figures
from edgeprune.runtime.budget.wanted import parse_budget
from edgeprune.runtime.figures import EnergyPerFrame, energy_per_frame
from edgeprune.runtime.meters import Energy
from edgeprune.runtime.row import Ledger
from tests.runtime.rows import row

TAKEN = Energy("measured by rapl (counted)", {"package": 20.0, "core": 9.0}, 20.0, ("package",), 2, 10.0, None)


def watts_of(*watts: float | None) -> Ledger:
    found = Ledger()
    for index, each in enumerate(watts):
        found.add(row(index, watts=each))
    return found


@pytest.mark.parametrize(
    ("watts", "expected"),
    [
        (
            [None, *[5.0] * 28],
            "10W: W not judged: too few frames (29; a mean is of 30 that each have a reading of the meter)",
        ),
        ([None, *[5.0] * 28, None] * 2, "10W: W not judged: no 30 frames in a row have a reading of the meter"),
        ([], "10W: W not judged: there was no frame"),
        (
            [None, *[5.0] * 30],
            "10W: W held in 100.0% of 1 of 31 frames, of the others nothing is known (p95 5.0, 0 over in a row at most)",
        ),
    ],
)
def test_a_budget_that_no_frame_tells_of(
    capsys: pytest.CaptureFixture[str], watts: list[float | None], expected: str
) -> None:
    show_budget(budget_figures(parse_budget("10W"), watts_of(*watts)), len(watts))
    assert capsys.readouterr().out == f"budget   {expected}\n"


def test_a_limit_that_was_judged_stands_beside_one_that_was_not(capsys: pytest.CaptureFixture[str]) -> None:
    show_budget(budget_figures(parse_budget("100ms,10W"), watts_of(None)), 1)
    said = capsys.readouterr().out
    assert "ms held in 100.0% of the frames" in said and ", W not judged: too few frames (1; " in said


def figures(idle_w: dict[str, float] | None) -> EnergyPerFrame:
    return energy_per_frame(TAKEN, 8, idle_w)


def test_energy_is_shown_gross_and_above_idle_where_idle_power_was_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """20 J over 8 frames; 0.5 W less for 10 s."""
    show_energy(figures({"package": 0.5, "core": 0.1}))
    show_energy(figures({"core": 0.1}))
    show_energy(replace(figures({"package": 0.5}), mj_per_frame=None, mj_per_frame_above_idle=None))
    assert capsys.readouterr().out.splitlines() == [
        "energy   2500.0 mJ a frame, 1875.0 above idle; 0.50 W when idle (measured by rapl (counted))",
        "energy   2500.0 mJ a frame (measured by rapl (counted))",
        "energy   measured by rapl (counted); 0.50 W when idle",
    ]
