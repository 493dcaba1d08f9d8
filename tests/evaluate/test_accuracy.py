"""Accuracy of compiled graphs, against the same figures worked out frame by frame in numpy."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data import Sample, open_split, spread
from edgeprune.data.datasets import DataSet, StreetSplit, load_data_set
from edgeprune.evaluate.accuracy import AccuracyResult, AccuracyRow, Rows, evaluate
from edgeprune.evaluate.graphs import Answer, GraphSelection
from edgeprune.evaluate.metrics import Scores
from edgeprune.runtime.cameras import open_source
from edgeprune.runtime.cameras.capture import open_capture
from edgeprune.runtime.choose import make_chooser
from edgeprune.runtime.engines import ENGINES
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.run import run
from edgeprune.runtime.stream import Stream
from edgeprune.runtime.tasks.overlay import Overlay
from tests import bundles

pytest.importorskip("onnxruntime", reason="needs ONNX Runtime: pip install onnxruntime")


class Frames:
    """Labelled frames with 0, 3, 6, ... bright cells; twice the input size, so that they are fitted."""

    def __init__(self, count: int, stray: int | None = None):
        self.count, self.stray = count, stray

    @property
    def names(self) -> list[str]:
        return [f"frame-{index}" for index in range(self.count)]

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        image_HW3 = self.frame(index).repeat(2, 0).repeat(2, 1)
        label_HW = np.random.default_rng(index).integers(0, 4, image_HW3.shape[:2], np.uint8)
        if index == self.stray:
            label_HW[0, 0] = 77
        return Sample(self.names[index], image_HW3, label_HW)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return f"labels/{self.names[index]}.png"

    @staticmethod
    def frame(index: int) -> np.ndarray:
        return bundles.frame_with(3 * index % (bundles.N + 1), seed=index)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("accuracy") / "tiny")


@pytest.fixture
def data_set() -> DataSet:
    return cells()


def cells() -> DataSet:
    split = StreetSplit(seed=0, frames=1)
    return DataSet(name="cells", train=split, val=split, names=bundles.NAMES, palette=bundles.PALETTE)


def by_key(result: AccuracyResult) -> dict[tuple[str, str], AccuracyRow]:
    return {(row.bucket, row.precision): row for row in result.rows}


def test_rows_are_those_of_a_slow_reference(bundle: Bundle, data_set: DataSet) -> None:
    data_set.score_height, data_set.score_width = 40, 60
    samples = Frames(9)
    result = evaluate(bundle, samples, data_set)
    rows = by_key(result)
    assert result.frames == 9
    assert list(rows) == [("dense", "fp32")] + [
        (bucket, precision) for precision in ("fp32", "int8") for bucket in (*bundles.BUCKETS, "auto")
    ]
    tokens = {name: 3 * bundles.N + 9 * first for name, first in bundles.BUCKETS.items()}
    chosen = []
    expected = {name: Scores(bundles.NAMES, 255, (40, 60)) for name in ("dense", *bundles.BUCKETS, "auto")}
    for sample in samples:
        frame_HW3 = np.asarray(
            Image.fromarray(sample.image_HW3).resize((bundles.W, bundles.H), Image.Resampling.BILINEAR)
        )
        chosen.append(bundles.expected_bucket(frame_HW3))
        predictions = {name: bundles.expected_labels(frame_HW3, name) for name in bundles.BUCKETS}
        predictions |= {"dense": bundles.expected_dense(frame_HW3), "auto": predictions[chosen[-1]]}
        for name, pred_HW in predictions.items():
            expected[name].update(pred_HW, sample.label_HW)
    assert len(set(chosen)) == 3
    for (bucket, _), row in rows.items():
        assert row.engine == "onnxruntime"
        assert row.figures == expected[bucket].result()
    for precision in ("fp32", "int8"):
        assert rows["auto", precision].tokens == pytest.approx(np.mean([tokens[name] for name in chosen]))
        assert rows["auto", precision].buckets == {name: chosen.count(name) for name in dict.fromkeys(chosen)}
        assert rows["half", precision].tokens == tokens["half"] and rows["half", precision].buckets is None
    assert rows["dense", "fp32"].token_share == rows["full", "int8"].token_share == 1.0


def test_pixels_outside_a_region_are_scored_of_no_graph(tmp_path: Path, data_set: DataSet) -> None:
    region = ["......", "######", "######", "###..."]
    bundle = bundles.write_bundle(tmp_path / "tiny", precisions=("fp32",), region=region)
    inside_HW = np.array([list(row) for row in region]).repeat(16, 0).repeat(16, 1) == "#"
    expected = {name: Scores(bundles.NAMES, 255, None) for name in ("dense", "half")}
    for sample in (samples := Frames(4)):
        frame_HW3 = bundles.cells(sample.image_HW3[::2, ::2])
        label_HW = np.where(inside_HW, sample.label_HW, 255)
        for name, scores in expected.items():
            offset = 0 if name == "dense" else list(bundles.BUCKETS).index(name) + 1
            steps = sum((frame_HW3 > threshold).astype(np.uint8) for threshold in bundles.THRESHOLDS) + offset
            scores.update(np.asarray(steps).repeat(16, 0).repeat(16, 1), label_HW)
    result = evaluate(bundle, samples, data_set)
    rows = by_key(result)
    assert result.scored_share == 15 / 24
    assert {name: rows[name, "fp32"].figures for name in expected} == {
        name: scores.result() for name, scores in expected.items()
    }
    assert rows["dense", "fp32"].token_share == 1
    assert rows["full", "fp32"].token_share == 15 / 24  # of the dense model, which sees the whole frame
    assert evaluate(bundles.write_bundle(tmp_path / "whole"), samples, data_set).scored_share is None


ASPECTS = {"as the input": (32, 48), "4:3": (90, 120), "16:9": (90, 160), "portrait": (160, 90), "odd": (37, 53)}


def write_pictures(folder: Path, height: int, width: int) -> str:
    """A data set of three frames: PNG, a JPEG that EXIF turns, 16-bit grey; random labels. Its YAML's path."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    random = np.random.default_rng(height)
    coarse_23HW3 = random.integers(0, 256, (3, 5, 7, 3), np.uint8)
    upright = [Image.fromarray(coarse_HW3).resize((width, height)) for coarse_HW3 in coarse_23HW3]
    upright[0].save(folder / "images" / "a.png")
    exif = Image.Exif()
    exif[274] = 6  # the camera was turned: stored a quarter to the left
    upright[1].rotate(90, expand=True).save(folder / "images" / "b.jpg", exif=exif)
    Image.fromarray(np.asarray(upright[2].convert("L")).astype(np.uint16) * 257).save(folder / "images" / "c.png")
    for stem in "abc":
        label_HW = random.integers(0, 4, (height, width), np.uint8)
        Image.fromarray(label_HW).save(folder / "labels" / f"{stem}.png")
    split = {"images": "images", "labels": "labels"}
    content = {"name": "cells", "path": ".", "train": split, "val": split, "names": bundles.NAMES}
    (folder / "data.yaml").write_text(json.dumps(content))
    return str(folder / "data.yaml")


@pytest.mark.parametrize("size", ASPECTS.values(), ids=ASPECTS)
def test_a_frame_has_the_same_labels_in_eval_and_in_a_run(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    """Bit by bit, at the frame's own pixels: what is scored as `auto` is what a run draws over the frame."""
    pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    data_set = load_data_set(write_pictures(tmp_path, *size))
    samples = open_split(data_set, "val")
    compared: list[np.ndarray] = []
    scored: list[np.ndarray] = []
    add, update = Rows.add, Scores.update

    def add_and_keep(rows: Rows, answer: Answer, sample: Sample) -> None:
        add(rows, answer, sample)
        if answer.bucket == "auto":
            scored.append(compared[-1])

    def update_and_keep(scores: Scores, pred_HW: np.ndarray, label_HW: np.ndarray) -> None:
        compared.append(pred_HW)
        update(scores, pred_HW, label_HW)

    monkeypatch.setattr(Rows, "add", add_and_keep)
    monkeypatch.setattr(Scores, "update", update_and_keep)
    row = by_key(evaluate(bundle, samples, data_set, GraphSelection(["int8"])))["auto", "int8"]

    shown: list[np.ndarray] = []
    draw = Overlay.draw

    def draw_and_keep(overlay: Overlay, image_HW3: np.ndarray, label_HW: np.ndarray, *rest: Any) -> np.ndarray:
        shown.append(label_HW)
        return draw(overlay, image_HW3, label_HW, *rest)

    monkeypatch.setattr(Overlay, "draw", draw_and_keep)
    with closing(ENGINES["onnxruntime"].open(bundle, "int8")) as session:
        capture = open_capture(open_source(str(tmp_path / "images")))
        chooser = make_chooser("in-frame", bundle.manifest.buckets)
        run(Stream(bundle, session, chooser, capture), open_meter("none"), outputs={"out": str(tmp_path / "o.mp4")})

    expected = Scores(bundles.NAMES, 255, None)
    for eval_HW, run_HW, sample in zip(scored, shown, samples, strict=True):
        assert eval_HW.shape == size
        np.testing.assert_array_equal(eval_HW, run_HW)
        expected.update(run_HW, sample.label_HW)
    assert row.figures["miou"] == expected.result()["miou"] is not None
    assert len({label_HW.tobytes() for label_HW in shown}) == 3


def test_figures_stand_among_a_rows_own_keys() -> None:
    row = AccuracyRow("half", "int8", "onnxruntime", 30, 0.5, {"miou": 0.7, "per_class_iou": {"road": None}})
    own = {"bucket": "half", "precision": "int8", "engine": "onnxruntime", "tokens": 30, "token_share": 0.5}
    assert list(row.to_json().items()) == [*own.items(), ("miou", 0.7), ("per_class_iou", {"road": None})]
    assert replace(row, buckets={"half": 3}).to_json() == row.to_json() | {"buckets": {"half": 3}}


def test_labels_that_hold_nothing_are_refused(bundle: Bundle, data_set: DataSet) -> None:
    class Ignored(Frames):
        def __getitem__(self, index: int) -> Sample:
            sample = super().__getitem__(index)
            return Sample(sample.name, sample.image_HW3, np.full_like(sample.label_HW, 255))

    with pytest.raises(InputError, match="every pixel of the 2 labels of data set 'cells' is ignored"):
        evaluate(bundle, Ignored(2), data_set, GraphSelection(["fp32"]))


def test_some_precisions_and_frames(bundle: Bundle, data_set: DataSet, said: list[str]) -> None:
    result = evaluate(bundle, Frames(9), data_set, GraphSelection(["fp32"], threads=1), frames=3)
    assert list(by_key(result)) == [("dense", "fp32"), *((bucket, "fp32") for bucket in (*bundles.BUCKETS, "auto"))]
    assert (result.frames, result.threads, said[-1]) == (3, 1, "3 of 3 frames")
    assert sum((by_key(result)["auto", "fp32"].buckets or {}).values()) == 3


def test_a_peer_gets_a_row_by_the_name_of_its_file(bundle: Bundle, data_set: DataSet, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs.onnx"
    theirs.write_bytes(bundle.path("graphs/dense.onnx").read_bytes())
    rows = by_key(evaluate(bundle, Frames(3), data_set, GraphSelection(["fp32"], [theirs])))
    assert rows["theirs", "fp32"].figures == rows["dense", "fp32"].figures
    assert rows["theirs", "fp32"].token_share == 1.0


def test_input_that_is_refused(bundle: Bundle, data_set: DataSet) -> None:
    with pytest.raises(InputError, match=r"labels/frame-1\.png: a label has id 77; expected 0 to 7"):
        evaluate(bundle, Frames(3, stray=1), data_set)
    with pytest.raises(InputError, match="'int9'"):
        evaluate(bundle, Frames(3), data_set, GraphSelection(["int9"]))
    with pytest.raises(InputError, match="unknown engine 'onnx'"):
        evaluate(bundle, Frames(3), data_set, engine="onnx")
    other = data_set.model_copy(update={"names": [*bundles.NAMES[:-1], "kerb"]})
    with pytest.raises(InputError, match=r"class 7 is 'kerb' in data set 'cells' but 'class7'"):
        evaluate(bundle, Frames(3), other)
    with pytest.raises(InputError, match="has 2 classes"):
        evaluate(bundle, Frames(3), data_set.model_copy(update={"names": ["a", "b"]}))


def test_spread() -> None:
    assert spread(5, None) == spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(101, 5) == [0, 25, 50, 75, 100]
    assert spread(7, 1) == [3]
