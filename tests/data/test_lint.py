"""Label lint: the histogram, and what it refuses before training does something silly."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data import Sample, open_split
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.lint import lint_labels, lint_split

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


def guessed(*ids: int) -> DataSet:
    names = [f"class_{each}" for each in ids]
    content = DATA_SET.model_dump(exclude={"palette", "names", "ids"}) | {
        "names": names,
        "ids": dict(zip(ids, names, strict=True)),
    }
    return DataSet.model_validate(content)


def test_an_id_that_may_be_no_class_is_told_where_nobody_names_the_classes() -> None:
    """A border of 254 after ids 0 to 2, and a slip of a few pixels; not ids of 0 and 128, nor Cityscapes' gaps."""
    whole = [[0, 1, 2, 3]] * 5000
    (line,) = lint_labels(Labels(whole), guessed(0, 1, 2, 254)).warnings
    assert line == (
        "class_254 has 25.00% of the pixels, in 1 of 1 labels, and none has an id from 3 to 253; where it is no class, say "
        "so in the YAML that `edgeprune data init` writes (`254: ignore` in `ids`, or a colour in `ignore_colours`)"
    )
    slip = [[0, 1, 2, 2]] * 4999 + [[0, 1, 2, 3]]
    (line,) = lint_labels(Labels(slip), guessed(0, 1, 2, 3)).warnings
    assert line.startswith("class_3 has 0.01% of the pixels, in 1 of 1 labels; where it is no class, say so")
    assert lint_labels(Labels([[0, 1]]), guessed(0, 128)).warnings == []
    for ids in ((7, 8, 11, 12), (0, 50, 100, 150)):
        assert lint_labels(Labels(whole), guessed(*ids)).warnings == []
    named = guessed(0, 1, 2, 254).model_copy(update={"names": ["a", "b", "c", "class_d"]})
    assert lint_labels(Labels(whole), named).warnings == []


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
    with pytest.raises(InputError, match=r"a.png can't be read \(and 1 more file\)"):
        report.check()


def write_set(folder: Path) -> str:
    """Train: an image that is none, a label of another size with a stray id, an image without a label. Val: nothing wrong."""
    for split in ("train", "val"):
        for name in ("images", "labels"):
            (folder / split / name).mkdir(parents=True)
        for stem in "abcd":
            Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / split / "images" / f"{stem}.png")
            Image.fromarray(np.eye(4, 6, dtype=np.uint8)).save(folder / split / "labels" / f"{stem}.png")
    (folder / "train/images/a.png").write_bytes(b"none")
    Image.fromarray(np.full((2, 3), 7, np.uint8)).save(folder / "train/labels/b.png")
    (folder / "train/labels/c.png").unlink()
    path = folder / "set.yaml"
    splits = "".join(f"{split}: {{images: {split}/images, labels: {split}/labels}}\n" for split in ("train", "val"))
    path.write_text(f"name: set\npath: .\n{splits}names: [near, far]\n")
    return str(path)


def test_every_kind_of_problem_is_told_at_once(tmp_path: Path) -> None:
    data_set = load_data_set(write_set(tmp_path))
    report = lint_split(data_set, "train")
    files, sizes, ids = report.problems()
    assert "1 of 4 images" in files and "c.png; add it" in files and files.endswith("(and 1 more file)")
    assert "b.png is 6x4 but its label" in sizes and "is 3x2" in sizes
    assert "b.png has id 7 (1 of 3 frames have it)" in ids
    assert (report.frames, report.total) == (3, 3)
    with pytest.raises(InputError, match="add it, .*`edgeprune data lint` tells 2 more problems"):
        report.check()
    assert lint_split(data_set, "val").problems() == []
    (tmp_path / "val/labels").rename(tmp_path / "val/elsewhere")
    [line] = lint_split(data_set, "val").problems()
    assert "labels folder" in line and "is not there" in line


def test_with_ids_too_every_kind_is_told(tmp_path: Path) -> None:
    path = Path(write_set(tmp_path))
    path.write_text(path.read_text() + "ids: {0: near, 1: far}\n")
    report = lint_split(load_data_set(str(path)), "train")
    assert [line.split(" ")[0:2] for line in report.problems()][1:] == [["label", f"{tmp_path}/train/labels/b.png"]]


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
