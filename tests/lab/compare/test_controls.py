"""Rows beside dense models of their latency."""

import pytest

from edgeprune.lab.compare.controls import add_controls
from tests.lab.compare.rows import measured


def test_rows_are_held_against_dense_models_of_their_latency() -> None:
    """A line from (20 ms, 0.50) to (80 ms, 0.60) in the first seed, past a dense model that is beaten in both; level at 0.60
    over 80 ms; the other precision has lines of its own."""
    rows = [
        measured("dense", "dense", 80, 0.60, 0.60),
        measured("depth-6", "dense", 20, 0.50, 0.56),
        measured("slow", "dense", 50, 0.49, 0.50),
        measured("svit", "pruned", 50, 0.58, 0.60),
        measured("late", "pruned", 90, 0.59, 0.59),
        measured("swift", "pruned", 10, 0.50, 0.50),
        measured("ats", "pruned", None, 0.50, 0.50),
        measured("dense", "dense", 10, 0.30, 0.30, precision="int8"),
    ]
    over = {row.row: (row.points_over_controls, row.controls_spread) for row in add_controls(rows)[:-1]}
    assert over["svit"] == (pytest.approx(2.5), pytest.approx((2.0, 3.0)))
    assert over["late"] == (pytest.approx(-1.0), pytest.approx((-1.0, -1.0)))
    assert [over[name] for name in ("dense", "depth-6", "swift", "ats")] == [(None, None)] * 4


def test_only_seeds_that_all_have_are_held_against_each_other() -> None:
    """The control of fewer blocks has the first seed alone; without it dense itself would be the control of the second one."""
    rows = [
        measured("dense", "dense", 80, 0.60, 0.70),
        measured("depth-6", "dense", 20, 0.50),
        measured("cts-svit", "pruned", 50, 0.58, 0.10),
        measured("svit", "pruned", 50, 0.54),
    ]
    over = {row.row: (row.points_over_controls, row.controls_spread) for row in add_controls(rows)}
    assert over["cts-svit"] == (pytest.approx(3.0), pytest.approx((3.0, 3.0)))
    assert over["svit"] == (pytest.approx(-1.0), pytest.approx((-1.0, -1.0)))
