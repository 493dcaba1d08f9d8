"""Accuracy of compiled graphs, against the same figures worked out frame by frame in numpy."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.bundle import Bundle
from edgeprune.camera.capture import open_capture
from edgeprune.camera.fit import Fit
from edgeprune.camera.source import FrameSource, Picture
from edgeprune.config import DataSet, StreetSplit
from edgeprune.data import Sample, spread
from edgeprune.energy import open_meter
from edgeprune.engines import ENGINES
from edgeprune.errors import InputError
from edgeprune.evaluate.accuracy import Rows, evaluate
from edgeprune.evaluate.metrics import Scores
from edgeprune.loop.choose import make_chooser
from edgeprune.loop.run import run
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
    split = StreetSplit(seed=0, frames=1)
    return DataSet(name="cells", train=split, val=split, names=bundles.NAMES, palette=bundles.PALETTE)


def by_key(result: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["bucket"], row["precision"]): row for row in result["rows"]}


def test_rows_are_those_of_a_slow_reference(bundle: Bundle, data_set: DataSet) -> None:
    data_set.score_height, data_set.score_width = 40, 60
    samples = Frames(9)
    result = evaluate(bundle, samples, data_set)
    rows = by_key(result)
    assert result["frames"] == 9
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
        assert row["engine"] == "onnxruntime"
        assert {key: row[key] for key in expected[bucket].result()} == expected[bucket].result()
    for precision in ("fp32", "int8"):
        assert rows["auto", precision]["tokens"] == pytest.approx(np.mean([tokens[name] for name in chosen]))
        assert rows["auto", precision]["buckets"] == {name: chosen.count(name) for name in dict.fromkeys(chosen)}
        assert rows["half", precision]["tokens"] == tokens["half"]
    assert rows["dense", "fp32"]["token_share"] == rows["full", "int8"]["token_share"] == 1.0


def test_auto_is_what_a_run_gives(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, data_set: DataSet) -> None:
    scored: list[np.ndarray] = []

    def keep(rows: Rows, bucket: str, precision: str, tokens: int, pred_HW: np.ndarray, label_HW: np.ndarray) -> None:
        if bucket == "auto":
            scored.append(pred_HW)

    monkeypatch.setattr(Rows, "add", keep)
    monkeypatch.setattr(Rows, "result", lambda rows, engine, tokens: [])
    evaluate(bundle, Frames(9), data_set, precisions=["int8"], buckets=["quarter"])

    class Stream(FrameSource):
        def one_pass(self) -> Iterator[Picture]:
            return (Picture(sample.image_HW3) for sample in Frames(9))

    shown: list[np.ndarray] = []
    session = ENGINES["onnxruntime"].open(bundle, "int8")
    finish = session.finish

    def finish_and_keep(bucket: str) -> np.ndarray:
        shown.append(finish(bucket))
        return shown[-1]

    monkeypatch.setattr(session, "finish", finish_and_keep)
    source = Stream("frames", live=False, fps=None)
    chooser = make_chooser("in-frame", bundle.manifest.buckets)
    run(bundle, session, open_capture(source), Fit(bundles.H, bundles.W), chooser, open_meter("none"))
    assert len(scored) == len(shown) == 9
    assert all(np.array_equal(one, other) for one, other in zip(scored, shown, strict=True))


def test_some_buckets_and_frames(bundle: Bundle, data_set: DataSet) -> None:
    said: list[str] = []
    result = evaluate(
        bundle, Frames(9), data_set, precisions=["fp32"], buckets=["half"], frames=3, threads=1, say=said.append
    )
    assert list(by_key(result)) == [("dense", "fp32"), ("half", "fp32"), ("auto", "fp32")]
    assert (result["frames"], result["threads"], said[-1]) == (3, 1, "3 of 3 frames")
    assert sum(by_key(result)["auto", "fp32"]["buckets"].values()) == 3


def test_a_dense_reference_from_elsewhere(tmp_path: Path, data_set: DataSet) -> None:
    bundle = bundles.write_bundle(tmp_path / "tiny", precisions=("int8",), dense=False)
    assert ("dense", "fp32") not in by_key(evaluate(bundle, Frames(2), data_set))
    bundles.write_single(tmp_path / "dense.onnx")
    rows = by_key(evaluate(bundle, Frames(2), data_set, dense_graph=tmp_path / "dense.onnx"))
    assert rows["dense", "fp32"]["tokens"] == bundles.DEPTH * bundles.N


def test_a_peer_gets_a_row_by_the_name_of_its_file(bundle: Bundle, data_set: DataSet, tmp_path: Path) -> None:
    peer = tmp_path / "theirs.onnx"
    peer.write_bytes(bundle.path("graphs/dense.onnx").read_bytes())
    rows = by_key(evaluate(bundle, Frames(3), data_set, precisions=["fp32"], peers=[peer]))
    assert rows["theirs", "int8"]["miou"] == rows["dense", "fp32"]["miou"]
    assert rows["theirs", "int8"]["token_share"] == 1.0


def test_input_that_is_refused(bundle: Bundle, data_set: DataSet) -> None:
    with pytest.raises(InputError, match=r"labels/frame-1\.png: a label has id 77; expected 0 to 7"):
        evaluate(bundle, Frames(3, stray=1), data_set)
    with pytest.raises(InputError, match="did you mean 'half'"):
        evaluate(bundle, Frames(3), data_set, buckets=["hal"])
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
