"""A compare.json that is there is judged anew, and nothing is timed again; a damaged one is refused in a line."""

import json
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.base.table import plain, write_csv, write_json
from edgeprune.cli.commands import edgeprune
from edgeprune.cli.compare import verdict_lines
from edgeprune.evaluate.tasks import METRICS
from edgeprune.lab.compare.comparison import ComparedRow, Limits, TimingRun, read_comparison
from edgeprune.lab.compare.verdict import Comparison, conclude
from tests.lab.compare.rows import measured

TIMING = TimingRun(5, 24, 2, {}, "no energy sensor")
ROWS = [
    measured("dense", "dense", 80, 0.60, 0.61, boundary_f=[0.5, 0.5]),
    measured("input", "dense", 30, 0.57, 0.58, boundary_f=[0.4, 0.4]),
    measured("svit", "pruned", 30, 0.56, 0.58, boundary_f=[0.45, 0.47]),
    measured("ats", "pruned", None, 0.60, 0.60),
]
NEW_KEYS = {"kind", "by_seed", "small_things_miou", "mj_per_frame", "peak_mb", "fronts", "fronts_of_all", "bundle"}


def compared(limits: Limits) -> Comparison:
    return conclude({"name": "p"}, TIMING, ROWS, limits)


def old_file(path: Path) -> Path:
    """As it was before there were kinds and a third measure."""
    rows = [plain(row) | {"miou_by_seed": row.by_seed["miou"]} for row in compared(Limits(0.5)).rows]
    rows = [{key: value for key, value in row.items() if key not in NEW_KEYS} for row in rows]
    content = {"plan": {"name": "p"}, "timing": plain(TIMING), "limit_points": 0.5, "picked": [rows[0]], "rows": rows}
    path.write_text(json.dumps(content))
    return path


def test_what_is_read_again_is_what_was_written(tmp_path: Path) -> None:
    result = compared(Limits(0.5, 40.0))
    write_json(tmp_path / "compare.json", result)
    again = read_comparison(tmp_path / "compare.json")
    assert conclude(again.plan, again.timing, again.rows, again.limits) == result


def test_a_comparison_of_an_earlier_version_has_what_it_measured(tmp_path: Path) -> None:
    again = read_comparison(old_file(tmp_path / "old.json"))
    assert [row.kind for row in again.rows] == ["dense", "dense", "pruned", "pruned"]
    assert again.rows[2].by_seed == {"miou": [0.56, 0.58], "boundary_f": [pytest.approx(0.46)]}
    assert again.rows[3].small_things_miou is None and again.limits == Limits(0.5)
    verdicts = conclude(again.plan, again.timing, again.rows, again.limits).verdicts
    assert [verdict.measure for verdict in verdicts] == ["miou", "boundary_f"]
    assert verdicts[1].at_points.under.apart is None  # of boundary F it had the means alone


def test_a_comparison_that_is_done_is_judged_by_other_limits(tmp_path: Path) -> None:
    path = old_file(tmp_path / "compare.json")
    typed = ["compare", str(path), "--points", "3.5", "--latency-ms", "35"]
    said = CliRunner().invoke(edgeprune, [*typed, "--json"], standalone_mode=False)
    assert said.exception is None, said.exception
    content = json.loads(said.stdout)
    assert content["limits"] == {"points": 3.5, "latency_ms": 35.0}
    by_miou = content["verdicts"][0]
    assert by_miou["at_points"]["chosen"]["row"] == by_miou["at_latency"]["chosen"]["row"] == "input"
    assert sorted(tmp_path.iterdir()) == [path]  # nothing is written unless it is asked for
    said = CliRunner().invoke(edgeprune, [*typed, "--out", str(tmp_path / "new")], standalone_mode=False)
    assert "small things: not measured" in said.stdout
    written = {file.name for file in (tmp_path / "new").iterdir()}
    assert written == {"compare.csv", "compare.json", "compare-onnxruntime.png"}


def test_what_is_said() -> None:
    lines = verdict_lines(compared(Limits(0.5, 20.0)))
    assert lines[:3] == [
        "onnxruntime, fp32; means over seeds, least to most:",
        "  mIoU: at most 0.5 points under dense: dense at 80.0 ms, p95 81.0: 0.6050 (0.6000 to 0.6100), 0.00 points under "
        "dense",
        "  mIoU: at most 20 ms: no row is as fast",
    ]
    assert lines[3] == (
        "  mIoU: no pruned row pays here: the best of them, svit at 30.0 ms, is 0.50 points (0.00 to 1.00) under dense input "
        "at 30.0 ms, the best that is as fast, within the spread of seeds"
    )
    lines = verdict_lines(compared(Limits(4.5, 40.0)))
    assert lines[2].endswith(", 3.00 points under dense; within the spread of seeds: svit")
    assert lines[6:] == [
        "  boundary F: pruning pays in svit: the most in svit at 30.0 ms, 6.00 points (5.00 to 7.00) over dense input at "
        "30.0 ms, the best that is as fast",
        "input: edgeprune run --bundle rows/input --engine onnxruntime --precision fp32",
        "svit: edgeprune run --bundle rows/svit --engine onnxruntime --precision fp32",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": []}, "rows: list should have at least 1 item"),
        ({"rows": 3}, "has no rows; name the compare.json"),
        ({"plan": 3}, "plan: input should be a valid dictionary"),
        ({"limits": {"points": -1}}, "limits.points: input should be greater than or equal to 0"),
        ({"by_seed": {"miou": [2.0, 0.5]}}, "by_seed.miou.0: input should be less than or equal to 1, found 2.0"),
        ({"by_seed": {"miou": []}}, "by_seed.miou: list should have at least 1 item"),
        ({"by_seed": {"miou": [0.5]}}, "rows have miou of different seeds; compare the plan again"),
        ({"by_seed": {"boundary_f": [0.5, 0.5]}}, "row dense lacks its mIoU"),
        ({"by_seed": {"f1": [0.5, 0.5]}}, "by_seed.f1"),
        ({"engine": None}, "row dense lacks its mIoU or its engine"),
        ({"latency_ms": {"p50": -1, "p95": 2}}, "or takes no time that can be"),
        ({"kind": "dens"}, "kind: input should be 'dense', 'pruned' or 'peer', found 'dens'"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_damaged_comparison_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = tmp_path / "compare.json"
    write_json(path, compared(Limits(0.5)))
    content = json.loads(path.read_text())
    (content if change.keys() & content.keys() else content["rows"][0]).update(change)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        read_comparison(path)


def things_in(row: ComparedRow) -> ComparedRow:
    """The same row of instances: mask AP in place of mIoU, box AP in place of boundary F."""
    boxes = row.by_seed.get("boundary_f")
    by_seed: dict[Any, list[float]] = {"mask_ap": row.by_seed["miou"]} | ({"box_ap": boxes} if boxes else {})
    means: dict[str, Any] = {measure: mean(values) for measure, values in by_seed.items()}
    return replace(row, miou=None, boundary_f=None, by_seed=by_seed, **means)


def test_instances_are_compared_by_their_own_measures(tmp_path: Path) -> None:
    path, expected = tmp_path / "compare.json", compared(Limits(0.5))
    result = conclude({"name": "p"}, TIMING, [things_in(row) for row in ROWS], Limits(0.5))
    write_json(path, result)
    again = read_comparison(path)
    assert conclude(again.plan, again.timing, again.rows, again.limits) == result
    assert [row.points_over_controls for row in result.rows] == [row.points_over_controls for row in expected.rows]
    said = CliRunner().invoke(edgeprune, ["compare", str(path)], standalone_mode=False).stdout
    assert "mask AP" in said and "mIoU" not in said and "boundary F" not in said and "small things" not in said
    assert [line.replace("mask AP", "mIoU").replace("box AP", "boundary F") for line in verdict_lines(result)] == (
        verdict_lines(expected)
    )


def test_a_comparison_of_two_tasks_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "compare.json", replace(compared(Limits(0.5)), rows=[things_in(ROWS[0]), *ROWS[1:]]))
    with pytest.raises(InputError, match="row input lacks its mask AP or its engine"):
        read_comparison(tmp_path / "compare.json")


def test_a_row_is_written_with_the_figures_of_its_task_alone(tmp_path: Path) -> None:
    labels, things = plain(ROWS[3]), plain(things_in(ROWS[0]))
    of_labels, of_things = ({*METRICS[task].brief} for task in ("semantic", "instance"))
    assert of_labels <= labels.keys() and labels["boundary_f"] is None and not of_things & labels.keys()
    assert list(labels)[:7] == ["row", "policy", "kind", "precision", "seeds", "miou", "points_under_dense"]
    assert of_things <= things.keys() and things["mask_ap_small"] is None and not of_labels & things.keys()
    write_csv(tmp_path / "compare.csv", [things_in(row) for row in ROWS])
    heads = (tmp_path / "compare.csv").read_text().partition("\n")[0].split(",")
    assert of_things <= set(heads) and not of_labels & set(heads)


def test_rows_of_unequal_seeds_are_read_and_that_is_said(tmp_path: Path) -> None:
    rows = [*ROWS[:2], measured("svit", "pruned", 30, 0.56, boundary_f=[0.45])]
    result = conclude({"name": "p"}, TIMING, rows, Limits(0.5))
    write_json(tmp_path / "compare.json", result)
    again = read_comparison(tmp_path / "compare.json")
    assert conclude(again.plan, again.timing, again.rows, again.limits) == result
    told = "rows have more seeds or fewer: a difference is of those that both have"
    assert told in verdict_lines(result) and told not in verdict_lines(compared(Limits(0.5)))
    payoff = result.verdicts[0].payoff
    assert payoff and payoff.lead and payoff.lead.points == pytest.approx(-1.0)  # 0.56 and 0.57, of the first seed
