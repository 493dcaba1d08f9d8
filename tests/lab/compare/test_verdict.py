"""The front, the row to deploy, and whether pruning pays, of rows whose answers one sees."""

from dataclasses import replace

import pytest

from edgeprune.lab.compare.comparison import Limits
from edgeprune.lab.compare.verdict import Verdict, best_within, fastest_within, gap, judge, pays, with_fronts
from tests.lab.compare.rows import measured

DENSE = measured("dense", "dense", 80, 0.60)


# ------------------------------------------------------------------------------------------------ differences


def test_differences_are_paired_and_told_apart_by_their_spread() -> None:
    one, other = measured("a", "pruned", 1, 0.60, 0.70, 0.80), measured("b", "pruned", 1, 0.59, 0.68, 0.77)
    found = gap(one, other, "miou")
    assert found.points == pytest.approx(2) and found.spread == pytest.approx((1, 3)) and found.apart is False
    found = gap(one, measured("b", "pruned", 1, 0.57, 0.66, 0.76), "miou")  # 3, 4 and 4 points
    assert found.apart is True
    assert gap(one, one, "miou").apart is False
    assert gap(DENSE, DENSE, "miou").apart is None  # one seed has no spread


def test_rows_of_unequal_seeds_are_told_apart_by_those_that_both_have() -> None:
    three, two = measured("a", "pruned", 1, 0.60, 0.70, 0.10), measured("b", "dense", 1, 0.58, 0.67)
    found = gap(three, two, "miou")
    assert found.points == pytest.approx(2.5) and found.spread == pytest.approx((2, 3)) and found.apart is True
    assert gap(two, three, "miou").points == pytest.approx(-2.5)
    assert gap(three, measured("c", "dense", 1, 0.55), "miou").apart is None  # they have one in common


# ------------------------------------------------------------------------------------------------ a stated accuracy


def test_the_fastest_row_within_the_points_is_deployed() -> None:
    rows = [
        DENSE,
        measured("svit", "pruned", 50, 0.596),
        measured("better", "pruned", 60, 0.61),
        measured("swift", "pruned", 10, 0.59),
    ]
    choice = fastest_within(rows, "miou", 0.5)
    assert (choice.chosen.row, choice.chosen.p50_ms, choice.chosen.p95_ms) == ("svit", 50, 51)
    assert (choice.chosen.value, choice.chosen.spread, choice.chosen.bundle) == (0.596, (0.596, 0.596), "rows/svit")
    assert choice.under.points == pytest.approx(0.4) and choice.level == []
    assert fastest_within(rows[::2], "miou", 0.5).chosen.row == "better"
    assert fastest_within([rows[0], rows[3]], "miou", 0.5).chosen.row == "dense"
    assert fastest_within(rows, "miou", 1.5).chosen.row == "swift"


def test_of_equally_fast_rows_the_better_one_is_deployed() -> None:
    rows = [DENSE, measured("a", "pruned", 50, 0.597), measured("b", "peer", 50, 0.598)]
    assert fastest_within(rows, "miou", 0.5).chosen.row == "b"


def test_a_faster_row_that_misses_by_less_than_its_seeds_differ_is_named() -> None:
    rows = [
        measured("dense", "dense", 80, 0.60, 0.60),
        measured("close", "pruned", 10, 0.590, 0.597),  # 1.0 and 0.3 under, 0.65 on the mean
        measured("far", "pruned", 10, 0.580, 0.580),
        measured("safe", "pruned", 20, 0.598, 0.598),
        measured("slow", "pruned", 30, 0.590, 0.597),
    ]
    choice = fastest_within(rows, "miou", 0.5)
    assert (choice.chosen.row, choice.level) == ("safe", ["close"])


# ------------------------------------------------------------------------------------------------ a stated latency


def test_the_best_row_within_the_latency_is_deployed() -> None:
    rows = [DENSE, measured("svit", "pruned", 20, 0.58), measured("net", "peer", 20.1, 0.62)]
    found = best_within(rows, "miou", 20)
    assert found and found.chosen.row == "svit" and found.under.points == pytest.approx(2)
    found = best_within(rows, "miou", 100)
    assert found and found.chosen.row == "net" and found.under.points == pytest.approx(-2)
    assert best_within(rows, "miou", 19) is None


def test_a_tie_goes_to_the_faster_row_and_what_the_spread_does_not_tell_apart_is_named() -> None:
    rows = [
        measured("dense", "dense", 80, 0.60, 0.60),
        measured("a", "pruned", 30, 0.58, 0.60),
        measured("b", "dense", 20, 0.58, 0.60),
        measured("c", "peer", 10, 0.57, 0.60),
        measured("d", "peer", 10, 0.50, 0.52),
    ]
    found = best_within(rows, "miou", 40)
    assert found and (found.chosen.row, found.level) == ("b", ["a", "c"])


# ------------------------------------------------------------------------------------------------ whether pruning pays


def test_pruning_pays_where_nothing_as_fast_is_as_good() -> None:
    rows = [
        DENSE,
        measured("input", "dense", 30, 0.57),
        measured("net", "peer", 20, 0.56),
        measured("best", "pruned", 30, 0.59),
        measured("good", "pruned", 29, 0.565),
        measured("none", "pruned", 31, 0.57),
    ]
    payoff = pays(rows, "miou")
    assert payoff and payoff.rows == ["best", "good"] and payoff.best.row == "best"
    assert payoff.control and payoff.control.row == "input"
    assert payoff.lead and payoff.lead.points == pytest.approx(2)


def test_no_pruned_row_pays_where_a_dense_one_or_a_peer_is_as_fast_and_as_good() -> None:
    """Equal in both is no gain; the row that loses least is named."""
    rows = [
        DENSE,
        measured("net", "peer", 20, 0.58),
        measured("a", "pruned", 25, 0.577),
        measured("b", "pruned", 80, 0.58),
    ]
    payoff = pays(rows, "miou")
    assert payoff and payoff.rows == [] and (payoff.best.row, payoff.best.value) == ("a", 0.577)
    assert payoff.control and payoff.control.row == "net"
    assert payoff.lead and payoff.lead.points == pytest.approx(-0.3)
    payoff = pays([*rows, measured("c", "pruned", 20, 0.58)], "miou")
    assert payoff and payoff.rows == [] and payoff.best.row == "c" and payoff.lead and payoff.lead.points == 0


def test_a_pruned_row_that_is_faster_than_all_others_pays() -> None:
    payoff = pays([DENSE, measured("swift", "pruned", 10, 0.3), measured("slow", "pruned", 90, 0.5)], "miou")
    assert (
        payoff and payoff.rows == ["swift"] and (payoff.best.row, payoff.control, payoff.lead) == ("swift", None, None)
    )


def test_without_pruned_rows_there_is_nothing_to_say() -> None:
    assert pays([DENSE, measured("net", "peer", 20, 0.58)], "miou") is None


# ------------------------------------------------------------------------------------------------ fronts


def test_the_front_is_of_its_precision_and_engine_and_of_all() -> None:
    """By each measure; equal rows share it, a row without the measure or without times is on none."""
    rows = [
        measured("dense", "dense", 80, 0.60, boundary_f=[0.50]),
        measured("svit", "pruned", 40, 0.58, boundary_f=[0.51]),
        measured("twin", "peer", 40, 0.58),
        measured("worse", "dense", 50, 0.57, boundary_f=[0.40]),
        measured("ats", "pruned", None, 0.70, boundary_f=[0.70]),
        measured("dense", "dense", 30, 0.59, precision="int8", boundary_f=[0.51]),
    ]
    found = [(row.row, row.fronts, row.fronts_of_all) for row in with_fronts(rows)]
    assert found == [
        ("dense", ["miou"], ["miou"]),
        ("svit", ["miou", "boundary_f"], []),
        ("twin", ["miou"], []),
        ("worse", [], []),
        ("ats", [], []),
        ("dense", ["miou", "boundary_f"], ["miou", "boundary_f"]),
    ]


# ------------------------------------------------------------------------------------------------ verdicts


def told(verdict: Verdict) -> tuple[str | None, str, str, str | None]:
    best = verdict.at_latency
    return verdict.precision, verdict.measure, verdict.at_points.chosen.row, best.chosen.row if best else None


def test_each_precision_and_engine_is_judged_and_then_all_rows() -> None:
    """In INT8 dense loses a point, so that across both its FP32 is what is held against."""
    rows = [
        measured("dense", "dense", 80, 0.60),
        measured("svit", "pruned", 40, 0.58),
        measured("ats", "pruned", None, 0.70),
        measured("dense", "dense", 60, 0.59, precision="int8"),
        measured("svit", "pruned", 30, 0.588, precision="int8"),
    ]
    found = judge(rows, Limits(0.5, latency_ms=45))
    assert [told(verdict) for verdict in found] == [
        ("fp32", "miou", "dense", "svit"),
        ("int8", "miou", "svit", "svit"),
        (None, "miou", "dense", "svit"),
    ]
    best, payoff = found[2].at_latency, found[2].payoff
    assert best and (best.chosen.precision, best.chosen.p50_ms) == ("int8", 30)
    assert payoff and payoff.rows == ["svit"] and payoff.best.precision == "int8" and payoff.control is None
    assert [verdict.precision for verdict in judge(rows[:3], Limits(0.5))] == ["fp32"]
    assert judge(rows[:3], Limits(0.5))[0].at_latency is None


def test_a_measure_is_asked_of_the_rows_that_have_it() -> None:
    rows = [
        measured("dense", "dense", 80, 0.60, boundary_f=[0.5]),
        measured("svit", "pruned", 40, 0.60, small_things_miou=[0.3]),
        measured("net", "peer", 20, 0.60, boundary_f=[0.5]),
    ]
    found = judge(rows, Limits(0.5))
    assert [told(verdict)[1:3] for verdict in found] == [("miou", "net"), ("boundary_f", "net")]
    assert found[0].payoff and found[1].payoff is None


def test_rows_without_times_are_not_judged() -> None:
    assert judge([replace(DENSE, latency_ms=None, engine=None)], Limits(0.5)) == []


def test_rows_that_answer_with_things_are_judged_by_average_precision() -> None:
    """By mask AP and box AP the pruned row is within the limit, by AP50 and of small things a peer alone is."""
    rows = [
        measured("dense", "dense", 80, mask_ap=[0.300], mask_ap50=[0.52], mask_ap_small=[0.12], box_ap=[0.33]),
        measured("svit", "pruned", 40, mask_ap=[0.297], mask_ap50=[0.51], mask_ap_small=[0.09], box_ap=[0.327]),
        measured("conv", "peer", 50, mask_ap=[0.297], mask_ap50=[0.517], mask_ap_small=[0.117], box_ap=[0.32]),
    ]
    found = judge(rows, Limits(0.5, latency_ms=45))
    assert [told(verdict) for verdict in found] == [
        ("fp32", "mask_ap", "svit", "svit"),
        ("fp32", "mask_ap50", "conv", "svit"),
        ("fp32", "mask_ap_small", "conv", "svit"),
        ("fp32", "box_ap", "svit", "svit"),
    ]
    assert [verdict.payoff.rows for verdict in found if verdict.payoff] == [["svit"]] * 4  # nothing else is as fast
    fronts = {row.row: row.fronts for row in with_fronts(rows)}
    assert fronts["conv"] == ["mask_ap50", "mask_ap_small"] and fronts["dense"] == fronts["svit"]
