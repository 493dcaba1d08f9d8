"""Average precision of things, against what pycocotools says of the same things."""

import json
import pickle
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.cli import measure
from edgeprune.cli.show import WIDTH
from edgeprune.data import Sample
from edgeprune.data.datasets import DataSet, StreetSplit
from edgeprune.data.instances import Instances, Mask, box_of
from edgeprune.data.preprocess import Preprocess
from edgeprune.evaluate import accuracy
from edgeprune.evaluate.accuracy import AccuracyResult, accuracy_of, evaluate, metric_of, open_scored
from edgeprune.evaluate.average_precision import load_library
from edgeprune.evaluate.graphs import Answer
from edgeprune.evaluate.tasks import METRICS
from edgeprune.evaluate.tasks.instance import InstanceScores, Targets
from tests import bundles
from tests.results import bench_result, bench_row

pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval: pip install 'edgeprune[coco]'")

H, W = SIZE = (160, 240)
CAR, PERSON = 1, 2
STREET = StreetSplit(seed=0, frames=1)
DATA = DataSet(name="things", train=STREET, val=STREET, names=["background", "car", "person"])


def rectangle(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    mask_HW = np.zeros(size, np.bool_)
    mask_HW[top:bottom, left:right] = True
    return mask_HW


def oval(top: int, left: int, bottom: int, right: int, size: tuple[int, int] = SIZE) -> Mask:
    y, x = np.ogrid[: size[0], : size[1]]
    down, across = (2 * y + 1 - top - bottom) / (bottom - top), (2 * x + 1 - left - right) / (right - left)
    inside_HW: Mask = down**2 + across**2 <= 1
    return inside_HW


class Target(NamedTuple):
    class_id: int
    mask_HW: Mask
    crowd: bool = False


class Found(NamedTuple):
    class_id: int
    score: float
    mask_HW: Mask


FRAMES: list[tuple[list[Target], list[Found]]] = [
    (  # large, medium and small; found well, badly, twice with one score, and as another class
        [
            Target(CAR, oval(5, 5, 125, 135)),
            Target(CAR, rectangle(130, 10, 155, 40)),
            Target(PERSON, oval(20, 150, 100, 200)),
            Target(PERSON, rectangle(110, 150, 135, 175)),
        ],
        [
            Found(CAR, 0.9, oval(8, 8, 128, 132)),
            Found(CAR, 0.9, oval(10, 10, 120, 120)),
            Found(CAR, 0.8, rectangle(132, 12, 156, 42)),
            Found(PERSON, 0.75, oval(24, 155, 104, 200)),
            Found(PERSON, 0.6, rectangle(110, 150, 135, 163)),
            Found(PERSON, 0.55, oval(5, 5, 125, 135)),
            Found(CAR, 0.5, oval(20, 150, 100, 200)),
        ],
    ),
    (  # a crowd: two are found in it, which count for nothing, and one a quarter in it, which is wrong
        [Target(PERSON, rectangle(0, 0, 70, 240), crowd=True), Target(PERSON, rectangle(80, 100, 150, 130))],
        [
            Found(PERSON, 0.95, rectangle(10, 10, 60, 40)),
            Found(PERSON, 0.85, oval(20, 60, 65, 90)),
            Found(PERSON, 0.5, oval(80, 100, 150, 130)),  # a mask of 79% of its box
            Found(CAR, 0.5, rectangle(80, 10, 110, 50)),
            Found(PERSON, 0.3, rectangle(60, 200, 100, 230)),
        ],
    ),
    (  # an empty frame; the second is small by its mask and of medium size by its box
        [],
        [
            Found(PERSON, 0.5, rectangle(10, 10, 50, 50)),
            Found(PERSON, 0.7, oval(60, 60, 96, 94)),
            Found(CAR, 0.3, oval(0, 0, 30, 30)),
        ],
    ),
    ([Target(CAR, oval(40, 40, 100, 120))], []),  # nothing is found
    (  # of two with one score the first is taken, where it is good enough
        [Target(CAR, rectangle(20, 20, 80, 100))],
        [Found(CAR, 0.4, rectangle(20, 20, 80, 70)), Found(CAR, 0.4, rectangle(20, 20, 80, 96))],
    ),
    ([], []),
]

# What pycocotools 2.0.11 says of FRAMES: `by_pycocotools`, which `test_pycocotools_says_the_same` runs where it is installed.
EXPECTED: dict[str, float] = {
    "mask_ap": 0.38375530410183867,
    "mask_ap50": 0.6513201320132012,
    "mask_ap75": 0.49792550683639786,
    "mask_ap_small": 0.325,
    "mask_ap_medium": 0.3946782178217822,
    "mask_ap_large": 0.8999999999999999,
    "mask_car": 0.42454031117397445,
    "mask_person": 0.342970297029703,
    "box_ap": 0.4003889674681753,
    "box_ap50": 0.6513201320132012,
    "box_ap75": 0.49792550683639786,
    "box_ap_small": 0.3499999999999999,
    "box_ap_medium": 0.3869224422442244,
    "box_ap_large": 0.8999999999999999,
    "box_car": 0.42454031117397445,
    "box_person": 0.37623762376237624,
}


def sample_of(truth: Sequence[Target], size: tuple[int, int] = SIZE) -> Sample:
    classes, masks, crowd = (
        [each.class_id for each in truth],
        [each.mask_HW for each in truth],
        [each.crowd for each in truth],
    )
    things = Instances.of(classes, masks, size, crowd)
    return Sample("frame", np.zeros((*size, 3), np.uint8), np.zeros(size, np.uint8), things)


def outputs_of(found: Sequence[Found], size: tuple[int, int] = SIZE) -> dict[str, np.ndarray]:
    """As graphs answer whose input is filled by the frame, with masks as fine as it is."""
    boxes = [box_of(each.mask_HW) for each in found]
    height, width = size
    masks = [255 * each.mask_HW.astype(np.uint8) for each in found]
    return {
        "classes": np.array([each.class_id for each in found], np.uint8),
        "scores": np.array([each.score for each in found], np.float32),
        "boxes": (np.array(boxes, np.float64).reshape(-1, 4) / [width, height, width, height]).astype(np.float32),
        "masks": np.stack(masks) if masks else np.zeros((0, *size), np.uint8),
    }


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


# --------------------------------------------------------------------------------------------------- in eval


class Frames:
    """FRAMES as samples that are read when they are asked for."""

    def __init__(self, frames: Sequence[tuple[list[Target], list[Found]]] = FRAMES, things: bool = True):
        self.frames, self.things = frames, things

    @property
    def names(self) -> list[str]:
        return [f"frame-{index}" for index in range(len(self.frames))]

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Sample:
        sample = sample_of(self.frames[index][0])
        return sample if self.things else replace(sample, things=None)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return f"things.json, {self.names[index]}"


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    """Whose dense graph answers what FRAMES say of one frame after the other, and `half` nothing."""
    answers = iter([outputs_of(found) for _, found in FRAMES])

    def answer(frame_HW3: np.ndarray) -> Iterator[Answer]:
        assert frame_HW3.shape == (bundles.H, bundles.W, 3)
        yield Answer("dense", "fp32", 90, next(answers))
        yield Answer("half", "int8", 60, outputs_of([]))

    @contextmanager
    def opened(*asked: Any) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(answers=answer, all_tokens=90, describe=lambda: {"engine": "onnxruntime"})

    monkeypatch.setattr(accuracy, "open_graphs", opened)
    written = bundles.write_bundle(tmp_path / "tiny", precisions=("int8",))
    return written.seen_with(task="instance", names=DATA.names)


def by_row(result: AccuracyResult) -> dict[str, dict[str, Any]]:
    return {row.bucket: row.to_json() for row in result.rows}


def test_eval_scores_every_row(bundle: Bundle) -> None:
    result = evaluate(bundle, Frames(), DATA)
    rows = by_row(result)
    assert {name: rows["dense"][name] for name in EXPECTED if name in rows["dense"]} == pytest.approx(
        {name: value for name, value in EXPECTED.items() if "_ap" in name}
    )
    assert rows["half"]["mask_ap"] == rows["half"]["box_ap"] == 0.0
    assert (result.frames, result.scored_share) == (6, None)
    assert accuracy_of(result.rows, "dense", "fp32", "onnxruntime") == pytest.approx(EXPECTED["mask_ap"])
    assert metric_of(rows["dense"]) is METRICS["instance"]


def test_frames_without_things_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match="the 2 frames of data set 'things' that are scored have no thing of car, person"
    ):
        evaluate(bundle, Frames([FRAMES[2], FRAMES[5]]), DATA)


def test_label_maps_are_refused(bundle: Bundle) -> None:
    with pytest.raises(
        InputError, match=r"things\.json, frame-0: frame has a label map and no things; score .* `format: coco`"
    ):
        evaluate(bundle, Frames(things=False), DATA)


def test_of_a_graph_that_answers_with_labels_no_score_is_made() -> None:
    scores = InstanceScores(Preprocess(H, W), DATA)
    with pytest.raises(InputError, match="unknown output of a graph: 'classes'; choices: labels"):
        scores.add({"labels": np.zeros(SIZE, np.uint8)}, sample_of([]))


def test_without_the_library_it_is_said_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    said = r"average precision needs faster-coco-eval.*pip install 'edgeprune\[coco\]'"
    for asked in (load_library, METRICS["instance"].check_library, lambda: open_scored("instance", DATA, "val")):
        with pytest.raises(InputError, match=said):
            asked()  # type: ignore[operator]
    METRICS["semantic"].check_library()


def test_a_split_is_opened_with_what_the_metric_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(accuracy, "open_split", lambda *rest, things: asked.append(things))
    for task in ("semantic", "instance"):
        open_scored(task, DATA, "val")
    assert asked == [False, True]
    with pytest.raises(
        InputError, match="unknown task 'instances'; choices: semantic, instance; did you mean 'instance'"
    ):
        open_scored("instances", DATA, "val")


def test_the_table_has_the_figures_of_the_task(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    measure.show_scores([row.to_json() for row in evaluate(bundle, Frames(), DATA).rows])
    head, _, dense, *_ = lines = capsys.readouterr().out.splitlines()
    assert head.split()[-9:] == ["mask", "AP", "AP50", "AP75", "APs", "APm", "APl", "box", "AP"]
    assert dense.split()[:3] == ["dense", "fp32", "onnxruntime"] and f"{EXPECTED['mask_ap']:.4f}" in dense
    assert "mask AP by class:" in lines and max(map(len, lines)) <= WIDTH


def test_bench_has_them_beside_times(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    known = dict(zip(METRICS["instance"].brief, (0.31, 0.52, 0.1, 0.3), strict=True))
    rows = [replace(bench_row("single", "full", "fp32", 9.0), figures=known)]
    panels: list[dict[str, Any]] = []
    monkeypatch.setattr(measure, "plot_latency", lambda found, path: panels.append(dict(found)))
    paths = measure.write_bench(bench_result(rows), tmp_path)
    assert (
        paths[0]
        .read_text()
        .splitlines()[0]
        .endswith("peak_mb,mask_ap,mask_ap50,mask_ap_small,box_ap,speedup_min,speedup_max")
    )
    assert json.loads(paths[1].read_text())["rows"][0]["mask_ap"] == 0.31
    [(axis, [point])] = panels[0].items()
    assert (axis, point.latency_ms, point.percent) == ("mask AP (%)", 9.0, pytest.approx(31))
    assert list(measure.bench_columns(bench_result(rows)))[-4:] == [f"figures.{name}" for name in known]


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
