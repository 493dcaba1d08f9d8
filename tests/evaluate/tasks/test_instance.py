"""Average precision of things, against what pycocotools says of the same things."""

import json
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import DataSet
from edgeprune.data.instances import Mask, box_of
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate.tasks.instance import InstanceScores, Targets
from tests.evaluate.tasks.things import (
    CAR,
    DATA,
    EXPECTED,
    FRAMES,
    PERSON,
    SIZE,
    Found,
    H,
    Target,
    W,
    outputs_of,
    oval,
    rectangle,
    sample_of,
)

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")


def scores_of(
    frames: Sequence[tuple[list[Target], list[Found]]], data_set: DataSet = DATA, targets: Targets | None = None
) -> dict[str, Any]:
    scores = InstanceScores(Preprocess(H, W), data_set, targets)
    for truth, found in frames:
        scores.add(outputs_of(found), sample_of(truth))
    return scores.result()


def by_pycocotools(frames: Sequence[tuple[list[Target], list[Found]]]) -> dict[str, float]:
    """The figures by pycocotools, from masks that it encodes itself, through `loadRes` as its own evaluation has it: results
    with boxes and without masks, then the reverse."""
    from pycocotools import mask as coding  # type: ignore[import-untyped, unused-ignore]
    from pycocotools.coco import COCO  # type: ignore[import-untyped, unused-ignore]
    from pycocotools.cocoeval import COCOeval  # type: ignore[import-untyped, unused-ignore]

    def described(mask_HW: Mask) -> dict[str, Any]:
        left, top, right, bottom = box_of(mask_HW) or (0, 0, 0, 0)
        return {
            "segmentation": coding.encode(np.asfortranarray(mask_HW.astype(np.uint8))),
            "bbox": [left, top, right - left, bottom - top],
        }

    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, (things, answers) in enumerate(frames, 1):
        for thing in things:
            about = {
                "id": len(truth) + 1,
                "image_id": image,
                "category_id": thing.class_id,
                "iscrowd": int(thing.crowd),
            }
            truth.append(about | described(thing.mask_HW) | {"area": int(thing.mask_HW.sum())})
        for answer in answers:
            found.append(
                {"image_id": image, "category_id": answer.class_id, "score": float(np.float32(answer.score))}
                | described(answer.mask_HW)
            )
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": [{"id": image, "height": H, "width": W} for image in range(1, len(frames) + 1)],
        "categories": [{"id": CAR, "name": "car"}, {"id": PERSON, "name": "person"}],
        "annotations": truth,
    }
    coco.createIndex()
    figures: dict[str, float] = {}
    for kind, type_, kept in (("mask", "segm", "segmentation"), ("box", "bbox", "bbox")):
        others = {"segmentation", "bbox"} - {kept}
        results = coco.loadRes([{key: value for key, value in each.items() if key not in others} for each in found])
        evaluated = COCOeval(coco, results, type_)
        evaluated.evaluate()
        evaluated.accumulate()
        evaluated.summarize()
        endings = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large")
        figures |= {
            f"{kind}_{ending}": float(value) for ending, value in zip(endings, evaluated.stats[:6], strict=True)
        }
        precision_ORKAM = evaluated.eval["precision"]
        for place, name in enumerate(("car", "person")):
            figures[f"{kind}_{name}"] = float(precision_ORKAM[:, :, place, 0, -1].mean())
    return figures


def flat(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures with those by class beside the others, as `by_pycocotools` has them."""
    found = {name: value for name, value in figures.items() if not name.startswith("per_class")}
    for kind in ("mask", "box"):
        found |= {f"{kind}_{name}": value for name, value in figures[f"per_class_{kind}_ap"].items()}
    return found


# --------------------------------------------------------------------------------------------------- known answers


def test_figures_are_those_of_pycocotools() -> None:
    assert flat(scores_of(FRAMES)) == pytest.approx(EXPECTED, abs=1e-9)


def test_pycocotools_says_the_same() -> None:
    pytest.importorskip("pycocotools", reason="what EXPECTED was computed by: pip install pycocotools")
    assert by_pycocotools(FRAMES) == pytest.approx(EXPECTED, abs=1e-9)


def test_nothing_found_is_nothing_right_and_nothing_there_is_no_figure() -> None:
    nothing_found = scores_of([(truth, []) for truth, _ in FRAMES])
    assert set(flat(nothing_found).values()) == {0.0}
    nothing_there = flat(scores_of([([], found) for _, found in FRAMES]))
    assert set(nothing_there.values()) == {None} and nothing_there.keys() == EXPECTED.keys()
    assert set(flat(scores_of([([], [])])).values()) == {None}
    json.dumps(nothing_there, allow_nan=False)


def test_all_found_as_it_is_scores_1() -> None:
    perfect = [
        (truth, [Found(each.class_id, 0.9, each.mask_HW) for each in truth if not each.crowd]) for truth, _ in FRAMES
    ]
    assert flat(scores_of(perfect)) == pytest.approx(dict.fromkeys(EXPECTED, 1.0))


def test_a_class_that_occurs_in_no_frame_is_no_part_of_the_mean() -> None:
    cars = [([each for each in truth if each.class_id == CAR], found) for truth, found in FRAMES]
    figures = scores_of(cars)
    assert figures["per_class_mask_ap"] == {"car": pytest.approx(EXPECTED["mask_car"]), "person": None}
    assert figures["mask_ap"] == pytest.approx(EXPECTED["mask_car"])


def test_classes_that_are_no_things_are_not_scored() -> None:
    figures = scores_of(FRAMES, DATA.model_copy(update={"things": ["car"]}))
    assert figures["per_class_box_ap"] == {"car": pytest.approx(EXPECTED["box_car"])}
    assert figures["box_ap"] == pytest.approx(EXPECTED["box_car"])


# --------------------------------------------------------------------------------------------------- from input to frame


def test_answers_are_scored_at_the_pixels_of_a_frame_that_was_letterboxed() -> None:
    """A frame of 100x200 lies in an input of 96x128 from row 16 on, 64 rows high; masks have a quarter of the input's size."""
    size, fit = (100, 200), Preprocess(96, 128)
    mask_HW = oval(20, 30, 90, 150, size)
    share_HW = mask_HW.astype(np.float64)
    rows, columns = (np.arange(100) * 16 // 100, np.arange(200) * 32 // 200)  # the cell of each pixel
    level_hw = np.zeros((16, 32))
    counted_hw = np.zeros((16, 32))
    np.add.at(level_hw, (rows[:, None], columns), share_HW)
    np.add.at(counted_hw, (rows[:, None], columns), 1.0)
    masks_1hw = np.zeros((1, 24, 32), np.uint8)
    masks_1hw[0, 4:20] = np.round(255 * level_hw / counted_hw)
    box = [30 * 0.64 / 128, (16 + 20 * 0.64) / 96, 150 * 0.64 / 128, (16 + 90 * 0.64) / 96]
    outputs: dict[str, np.ndarray] = {
        "classes": np.array([CAR], np.uint8),
        "scores": np.array([0.7], np.float32),
        "boxes": np.array([box], np.float32),
        "masks": masks_1hw,
    }
    scores = InstanceScores(fit, DATA)
    scores.add(outputs, sample_of([Target(CAR, mask_HW)], size))
    figures = scores.result()
    assert (figures["box_ap"], figures["mask_ap75"]) == (pytest.approx(1), pytest.approx(1)) and figures[
        "mask_ap"
    ] > 0.89
    assert (
        figures["mask_ap_medium"] == figures["mask_ap"] and figures["mask_ap_large"] is None
    )  # 6,597 pixels of the frame
    elsewhere = InstanceScores(fit, DATA)
    elsewhere.add(outputs | {"masks": np.roll(masks_1hw, 4, 1)}, sample_of([Target(CAR, mask_HW)], size))
    assert elsewhere.result()["mask_ap75"] == 0.0


def test_what_is_kept_of_a_frame_is_small() -> None:
    size = (480, 640)
    masks = [oval(10 * index, 20 * index, 10 * index + 180, 20 * index + 200, size) for index in range(20)]
    scores = InstanceScores(Preprocess(*size), DATA)
    found = [Found(CAR, 0.5, mask_HW) for mask_HW in masks]
    scores.add(outputs_of(found, size), sample_of([Target(CAR, mask_HW) for mask_HW in masks], size))
    assert len(pickle.dumps((scores._found, scores._targets.frames))) < 25_000  # one mask has 307,200 pixels


def test_outside_a_region_nothing_is_scored() -> None:
    inside_hw = np.zeros((40, 60), np.bool_)
    inside_hw[:, :30] = True  # the left half of the frame
    left, right, both = rectangle(10, 10, 60, 60), rectangle(10, 150, 60, 200), rectangle(80, 100, 120, 160)
    truth = [Target(CAR, left), Target(CAR, right), Target(CAR, both)]
    # all of the frame is answered at the resolution of the region
    masks = rectangle(10, 220, 60, 236), left, rectangle(80, 100, 120, 120)
    found = [Found(CAR, score, mask_HW[::4, ::4]) for score, mask_HW in zip((0.95, 0.9, 0.8), masks, strict=True)]
    targets = Targets(Preprocess(H, W), DATA, inside_hw)
    scores = InstanceScores(Preprocess(H, W), DATA, targets)
    scores.add(outputs_of(found, (40, 60)), sample_of(truth))
    assert scores.result()["mask_ap50"] == pytest.approx(1) and targets.scored_share == 0.5
    assert [regions.areas_T.tolist() for regions in targets.frames] == [[2500, 800]]
    whole = InstanceScores(Preprocess(H, W), DATA)
    whole.add(outputs_of(found, (40, 60)), sample_of(truth))
    assert whole.result()["mask_ap50"] == pytest.approx(
        17 / 101
    )  # the second is one of three: half right at recalls 0, .01 ... .33


def test_of_a_graph_that_answers_with_labels_no_score_is_made() -> None:
    scores = InstanceScores(Preprocess(H, W), DATA)
    with pytest.raises(InputError, match="unknown output of a graph: 'classes'; choices: labels"):
        scores.add({"labels": np.zeros(SIZE, np.uint8)}, sample_of([]))


def test_any_answers_can_be_scored_together() -> None:
    """As a study puts together those of several buckets; one that is named twice counts twice."""
    scores, whole = InstanceScores(Preprocess(H, W), DATA), scores_of(FRAMES)
    for truth, found in FRAMES:
        scores.add(outputs_of(found), sample_of(truth))
    assert scores.figure_of(range(len(FRAMES))) == whole["mask_ap"] == scores.result()["mask_ap"]
    some = [4, 0, 0]
    assert scores.figure_of(some) == scores_of([FRAMES[place] for place in some])["mask_ap"] != whole["mask_ap"]
    nothing = sample_of([])
    scores.add(outputs_of([]), nothing)
    assert scores.figure_of([len(FRAMES)]) is None
