"""Budgets as they are typed."""

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.budget.wanted import Budget, parse_budget


@pytest.mark.parametrize(
    ("typed", "budget"),
    [
        ("33ms", Budget(latency_ms=33)),
        ("15fps", Budget(fps=15)),
        ("10W", Budget(power_w=10)),
        ("250mJ", Budget(energy_mj=250)),
        (" 33.5 ms , 10 w ", Budget(latency_ms=33.5, power_w=10)),
        (".5W,1000MJ", Budget(power_w=0.5, energy_mj=1000)),  # nobody means megajoules
    ],
)
def test_a_budget_is_numbers_with_units(typed: str, budget: Budget) -> None:
    assert parse_budget(typed) == budget
    assert parse_budget(str(budget)) == budget


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("33", "type a number and a unit: 33ms, 15fps"),
        ("", "type a number and a unit"),
        ("33ms,", "type a number and a unit"),
        ("-3ms", "type a number and a unit"),
        ("nanms", "type a number and a unit"),
        ("1e3ms", "type a number and a unit"),
        ("33mss", "did you mean 'ms'?"),
        ("3kJ", "choices: ms, fps, w, mj"),
        ("0ms", "0 is not 0.0001 to 1000000"),
        ("0.00001fps", "1e-05 is not 0.0001"),
        ("9999999W", "to 1000000"),
        ("33ms,10W,20ms", "names ms twice"),
    ],
)
def test_what_is_no_budget_is_refused_in_a_line(typed: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_budget(typed)


def test_power_and_energy_need_a_meter() -> None:
    assert parse_budget("10W,33ms").metered and parse_budget("1mJ").metered
    assert not parse_budget("10fps,33ms").metered
