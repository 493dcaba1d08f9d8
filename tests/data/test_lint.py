"""Label lint: the histogram, and what it refuses before training does something silly."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import Sample, open_split
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.lint import lint_labels

DATA_SET = DataSet.model_validate(
    {
        "name": "tiny",
        "train": {"seed": 0, "frames": 1},
        "val": {"seed": 0, "frames": 1},
        "names": ["near", "far", "away"],
        "palette": [(0, 0, 0)] * 3,
        "ignore_index": 9,
    }
)


class Labels:
    """Samples with given labels; a string stands for a frame that can't be read."""

    def __init__(self, *labels: list[list[int]] | str) -> None:
        self.labels = labels

    @property
    def names(self) -> list[str]:
        return [str(index) for index in range(len(self))]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Sample:
        label = self.labels[index]
        if isinstance(label, str):
            raise InputError(label)
        label_HW = np.array(label, np.uint8)
        return Sample(str(index), np.zeros((*label_HW.shape, 3), np.uint8), label_HW)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return f"labels/{index}.png"


def test_histogram_and_absent_classes() -> None:
    report = lint_labels(Labels([[0, 0], [1, 9]], [[0, 0], [0, 0]]), DATA_SET)
    report.check()
    assert report.frames == report.total == 2
    assert report.warnings == ["class 2 (away) is in none of the 2 labels"]
    assert report.rows() == [
        {"id": 0, "name": "near", "pixels": 6, "share": 0.75, "frames": 2},
        {"id": 1, "name": "far", "pixels": 1, "share": 0.125, "frames": 1},
        {"id": 2, "name": "away", "pixels": 0, "share": 0.0, "frames": 0},
        {"id": 9, "name": "(ignore)", "pixels": 1, "share": 0.125, "frames": 1},
    ]


def test_ids_outside_the_classes_are_refused() -> None:
    report = lint_labels(Labels([[0, 1]], [[3, 1]], [[3, 255]]), DATA_SET)
    assert report.strays == {3: "labels/1.png", 255: "labels/2.png"}
    with pytest.raises(
        InputError,
        match=r"labels/1.png has id 3 \(2 of 3 frames have it\); expected 0 to 2, or 9 \(ignore\); also found: 255",
    ):
        report.check()


def test_ids_that_count_from_one_are_told_what_to_type() -> None:
    report = lint_labels(Labels([[0, 1]], [[2, 3]]), DATA_SET)
    with pytest.raises(InputError, match=r"has id 3 .*write `ids: \{0: ignore, 1: near, 2: far, 3: away\}`"):
        report.check()


BINARY = DATA_SET.model_copy(update={"names": ["near", "far"], "ignore_index": 255})


def test_binary_masks_of_255_are_told_what_to_type() -> None:
    report = lint_labels(Labels([[0, 0]], [[0, 255]]), BINARY)
    words = (
        r"the ids 0 and 255 alone, and 255 is ignored, so 'near' is the only class left; .*`ids: \{0: near, 255: far\}`"
    )
    with pytest.raises(InputError, match=words + r".*where it is none `ids: \{0: near, 255: ignore\}`"):
        report.check()
    told = BINARY.model_copy(update={"ids": {0: "near", 255: "ignore"}})
    lint_labels(Labels([[0, 0]], [[0, 255]]), told).check()
    lint_labels(Labels([[0, 0]], [[1, 255]]), BINARY).check()
    lint_labels(Labels([[0, 0]]), BINARY).check()  # frames without the object are good for a part of a mixture


def test_labels_in_which_all_is_ignored_are_refused() -> None:
    with pytest.raises(InputError, match=r"every pixel of the 2 labels of data set 'tiny' is ignored \(id 9\)"):
        lint_labels(Labels([[9, 9]], [[9]]), DATA_SET).check()


def test_unreadable_frames_are_named_and_counted() -> None:
    report = lint_labels(Labels([[0, 1]], "a.png can't be read", "b.png is 4x4"), DATA_SET)
    assert report.frames == 1
    with pytest.raises(InputError, match=r"a.png can't be read \(and 1 more frames\)"):
        report.check()


def test_limit_spreads_over_the_split() -> None:
    report = lint_labels(Labels([[0]], "unread", [[1]], "unread", [[2]]), DATA_SET, limit=3)
    report.check()
    assert report.frames == 3 and report.warnings == []


@pytest.mark.skipif(
    not Path(str(load_data_set("camvid").path)).is_dir(), reason="CamVid is not at the path of its data-set YAML"
)
def test_camvid_has_every_class_and_no_other() -> None:
    data_set = load_data_set("camvid")
    for split, frames in (("train", 367), ("val", 101)):
        samples = open_split(data_set, split)
        assert len(samples) == frames
        report = lint_labels(samples, data_set, limit=24)
        report.check()
        assert report.frames == 24 and report.warnings == []
    drives = {
        drive: len(open_split(data_set, "train", include=[f"{drive}*"])) for drive in ("0001TP", "0006R0", "0016E5")
    }
    assert drives == {"0001TP": 62, "0006R0": 101, "0016E5": 204}
    assert len(open_split(data_set, "train", exclude=["0016E5*"])) == 163
