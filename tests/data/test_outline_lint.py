"""Lint of outlines: every rule is broken once, told with its count and where, and keeps nothing from being read."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.data.datasets import load_data_set
from edgeprune.data.lint import lint_labels, lint_split
from edgeprune.data.outline_lint import RULES, OutlineReport
from edgeprune.data.split import open_split
from tests.data.coco_files import BOX, CRATE, FLOOR, FREE, HEIGHT, WIDTH, annotation, rectangle, runs, write_set
from tests.data.layouts.drawn import LAYOUTS

WHOLE = [annotation(50, BOX, [rectangle(20, 14, 30, 22)], image=1000, area=80, bbox=[20, 14, 10, 8])]
OUTLINE = [rectangle(2, 2, 12, 10)]  # 80 pixels
BROKEN: dict[str, list[tuple[list[dict[str, Any]], str]]] = {
    "empty": [
        ([annotation(1, BOX, [rectangle(4.6, 4, 5.4, 9)])], "a, annotation 1"),
        ([annotation(2, BOX, {"counts": [HEIGHT * WIDTH], "size": [HEIGHT, WIDTH]})], "a, annotation 2"),
    ],
    "small": [([annotation(3, BOX, [rectangle(1, 1, 4, 6)])], "a, annotation 3")],
    "area": [
        ([annotation(4, BOX, OUTLINE, area=170)], "a, annotation 4"),
        ([annotation(5, BOX, OUTLINE, area=0)], "a, annotation 5"),
    ],
    "outside": [([annotation(6, BOX, [rectangle(20, 2, 34, 10)])], "a, annotation 6")],
    "box": [
        ([annotation(7, BOX, OUTLINE, bbox=[2, 2, 0, 8])], "a, annotation 7"),
        ([annotation(8, BOX, OUTLINE, bbox=[-3, 2, 9, 9])], "a, annotation 8"),
        ([annotation(9, BOX, OUTLINE, bbox=["x", 2, 9, 9])], "a, annotation 9"),
    ],
    "crossing": [([annotation(10, BOX, [[2, 2, 14, 14, 14, 2, 2, 14]])], "a, annotation 10")],
    "duplicate": [
        ([annotation(11, BOX, OUTLINE), annotation(12, BOX, OUTLINE)], "a, annotation 12"),
        ([annotation(13, BOX, OUTLINE), annotation(14, BOX, [rectangle(2, 2, 13, 10)])], "a, annotation 14"),
    ],
    "number": [
        ([annotation("x", BOX, OUTLINE)], "a, annotation x"),
        ([annotation(18, BOX, OUTLINE, track_id=2), annotation(2, BOX, [rectangle(14, 2, 24, 10)])], "a, annotation 2"),
    ],
    "hidden": [
        (
            [
                annotation(15, BOX, OUTLINE),
                annotation(16, BOX, [rectangle(2, 2, 7, 10)]),
                annotation(17, CRATE, [rectangle(7, 2, 12, 10)]),
            ],
            "a, annotation 15",
        )
    ],
}


def report(folder: Path, annotations: list[dict[str, Any]]) -> OutlineReport:
    found = lint_split(write_set(folder, annotations), "train")
    assert found.problems() == [] and found.outlines is not None
    return found.outlines


def test_every_rule_has_a_case() -> None:
    assert set(BROKEN) == set(RULES)


@pytest.mark.parametrize(
    ("rule", "case"), [(rule, case) for rule, cases in BROKEN.items() for case in range(len(cases))]
)
def test_a_rule_that_is_broken_is_told_with_its_count_and_where(tmp_path: Path, rule: str, case: int) -> None:
    annotations, where = BROKEN[rule][case]
    found = report(tmp_path, [*WHOLE, *annotations])
    assert dict(found.counts) == {rule: 1} and found.examples == {rule: [where]}
    line = found.lines()[0]
    assert line.startswith(f"outlines that {RULES[rule][0]}: 1 of {1 + len(annotations)} ({where}); ")
    assert "\n" not in line


def test_what_is_right_is_not_told(tmp_path: Path) -> None:
    """A crowd that covers a frame, a thing of another class at the same place, one that reaches the image's border."""
    crowd = {"counts": runs(np.ones((HEIGHT, WIDTH))), "size": [HEIGHT, WIDTH]}
    whole = [
        *WHOLE,
        annotation(1, BOX, crowd, iscrowd=1, area=HEIGHT * WIDTH, bbox=[0, 0, WIDTH, HEIGHT]),
        annotation(2, BOX, OUTLINE, area=80, bbox=[2, 2, 10, 8]),
        annotation(3, CRATE, [rectangle(2, 2, 10, 10)], area=64),
        annotation(4, CRATE, [rectangle(25, 0, WIDTH + 0.4, 9)], area=66.6),
        annotation(5, FLOOR, [rectangle(0, 16, 8, HEIGHT)], area=64),
        annotation(6, BOX, [rectangle(2, 2, 12, 7)], area=50),  # over half of number 2
    ]
    found = report(tmp_path, whole)
    assert not found.counts and found.outlines == 7 and found.crowds == 1
    assert {int(index): int(found.things_256[index]) for index in np.flatnonzero(found.things_256)} == {1: 3, 2: 2}


def test_examples_are_a_few_and_counts_are_whole(tmp_path: Path) -> None:
    small = [annotation(number, BOX, [rectangle(2 * number, 2, 2 * number + 2, 4)]) for number in range(9)]
    found = report(tmp_path, [*WHOLE, *small])
    assert found.counts["small"] == 9 and len(found.examples["small"]) == 3
    assert "9 of 10 (a, annotation 0; a, annotation 1; a, annotation 2; ...); " in found.lines()[0]


def test_a_duplicate_of_a_duplicate_is_counted_once_each(tmp_path: Path) -> None:
    found = report(tmp_path, [*WHOLE, *(annotation(number, BOX, OUTLINE) for number in (1, 2, 3))])
    assert dict(found.counts) == {"duplicate": 2}
    found = report(tmp_path, [*WHOLE, annotation(1, BOX, OUTLINE), annotation(2, CRATE, OUTLINE, area=1)])
    assert "duplicate" not in found.counts  # of another class


def test_categories_are_told(tmp_path: Path) -> None:
    """One that no annotation has, and annotations of one that there is none of."""
    path = tmp_path / "coco.json"
    free = [annotation(number, FREE, OUTLINE) for number in (1, 2)]
    lines = report(tmp_path, [*WHOLE, *free, annotation(3, CRATE, OUTLINE), annotation(4, FLOOR, OUTLINE)]).remarks
    assert lines == [
        f"categories without an annotation: 1 of 4 in {path} (never); they can be neither learnt nor scored",
        f"annotations of categories that there are none of: 2 of 5 in {path} (category 90); name them in `categories`, or "
        "export the file again",
    ]


def test_label_maps_have_no_outlines_and_training_looks_at_none(tmp_path: Path) -> None:
    data_set = write_set(tmp_path / "coco", [annotation(1, BOX, [rectangle(1, 1, 4, 6)])])
    plain = lint_labels(open_split(data_set, "train"), data_set)
    assert plain.outlines is None and "things" not in plain.rows()[0]
    assert lint_split(data_set, "train").rows()[1]["things"] == 1
    LAYOUTS["split/kind"].make(tmp_path / "masks")
    assert lint_split(load_data_set(str(tmp_path / "masks")), "train").outlines is None


def test_yolo_is_told_by_lines(tmp_path: Path) -> None:
    LAYOUTS["yolo"].make(tmp_path)
    (tmp_path / "train/labels/a.txt").write_text("0 0 0 0.5 0 0.5 0.5 0 0.5\n0 0 0 0.5 0 0.5 0.5 0 0.5\n")
    found = lint_split(load_data_set(str(tmp_path)), "train").outlines
    assert found is not None and found.examples["duplicate"] == ["a, line 2"] and found.remarks == []


def test_json_has_the_counts(tmp_path: Path) -> None:
    content = json.loads(json.dumps(report(tmp_path, [*WHOLE, *BROKEN["small"][0][0]]).as_json()))
    assert content["found"] == [{"rule": "small", "count": 1, "examples": ["a, annotation 3"]}]
    assert (content["outlines"], content["things"], content["crowds"]) == (2, 2, 0)
