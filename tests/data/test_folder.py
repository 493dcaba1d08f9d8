"""Folder splits: pairing by stem, include and exclude, and what is said about damaged data sets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.config import DataSet
from edgeprune.data import open_split
from edgeprune.errors import InputError

STEMS = ["A_01", "A_02", "B_01", "C_01"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four images of 8x6 with labels of classes 0 and 1."""
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for index, stem in enumerate(STEMS):
        Image.new("RGB", (8, 6), (10 * index, 20, 30)).save(tmp_path / "images" / f"{stem}.png")
        Image.fromarray(np.full((6, 8), index % 2, np.uint8)).save(tmp_path / "labels" / f"{stem}.png")
    return tmp_path


def data_set(path: Path, **train: Any) -> DataSet:
    split = {"images": "images", "labels": "labels"}
    return DataSet.model_validate(
        {
            "name": "tiny",
            "path": path,
            "train": split | train,
            "val": split,
            "names": ["near", "far"],
            "palette": [(0, 0, 0), (255, 255, 255)],
        }
    )


def test_pairs_in_order_of_stems(folder: Path) -> None:
    samples = open_split(data_set(folder), "train")
    assert samples.names == STEMS and len(samples) == 4
    for index, sample in enumerate(samples):
        assert sample.name == STEMS[index]
        assert sample.image_HW3.shape == (6, 8, 3) and sample.image_HW3.dtype == np.uint8
        assert (sample.image_HW3 == [10 * index, 20, 30]).all()
        assert sample.label_HW.shape == (6, 8) and (sample.label_HW == index % 2).all()
    assert samples.origin(2) == str(folder / "labels" / "B_01.png")
    with pytest.raises(IndexError):
        samples[4]


def test_include_and_exclude_combine_with_the_splits_own(folder: Path) -> None:
    spec = data_set(folder, include=["A*", "B*"], exclude=["*_02"])
    assert open_split(spec, "train").names == ["A_01", "B_01"]
    assert open_split(spec, "train", include=["B*", "C*"]).names == ["B_01"]
    assert open_split(spec, "train", exclude=["B*"]).names == ["A_01"]
    assert open_split(spec, "val").names == STEMS
    with pytest.raises(InputError, match=r"none of the 4 images .*include \[A\*, B\*\] and \[Z\*\].*look like 'A_01'"):
        open_split(spec, "train", include=["Z*"])


def test_palette_labels_are_their_indices(folder: Path) -> None:
    label = Image.new("P", (8, 6), 1)
    label.putpalette([0, 0, 0, 200, 100, 50])
    label.save(folder / "labels" / "A_01.png")
    assert (open_split(data_set(folder), "train")[0].label_HW == 1).all()


def test_label_without_an_image_is_no_fault(folder: Path) -> None:
    (folder / "images" / "C_01.png").unlink()
    assert open_split(data_set(folder), "train").names == STEMS[:3]


def test_missing_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images folder .*/frames is not there; correct `images:` or `path:`"):
        open_split(data_set(folder, images="frames"), "train")
    with pytest.raises(InputError, match="data set 'tiny' is not at .*/nowhere; copy its YAML, edit `path:`"):
        open_split(data_set(tmp_path / "nowhere"), "train")
    with pytest.raises(InputError, match="no split 'test'; it has train, val"):
        open_split(data_set(folder), "test")
    (folder / "empty").mkdir()
    with pytest.raises(InputError, match="no images in .*/empty; expected files that end in .jpg"):
        open_split(data_set(folder, images="empty"), "train")


def test_image_without_a_label(folder: Path) -> None:
    (folder / "labels" / "B_01.png").unlink()
    with pytest.raises(InputError, match="1 of 4 images .* have no label: expected .*labels/B_01.png"):
        open_split(data_set(folder), "train")


def test_two_images_of_one_stem(folder: Path) -> None:
    Image.new("RGB", (8, 6)).save(folder / "images" / "A_01.jpg")
    with pytest.raises(InputError, match="A_01.jpg and A_01.png share a stem"):
        open_split(data_set(folder), "train")


@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
@pytest.mark.parametrize("kind", ["images", "labels"])
def test_damaged_file_is_named(folder: Path, kind: str, damage: str) -> None:
    path = folder / kind / "A_02.png"
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "noise": bytes(range(256)), "empty": b""}[damage])
    samples = open_split(data_set(folder), "train")
    assert samples[0].name == "A_01"
    with pytest.raises(InputError, match=f"{kind[:-1]} .*/{kind}/A_02.png can't be read") as caught:
        samples[1]
    assert "\n" not in str(caught.value)


def test_truncated_jpeg_is_named(folder: Path) -> None:
    path = folder / "images" / "A_01.png"
    path.unlink()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = path.with_suffix(".jpg")
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    with pytest.raises(InputError, match="A_01.jpg can't be read .*truncated"):
        open_split(data_set(folder), "train")[0]


def test_file_that_went_away(folder: Path) -> None:
    samples = open_split(data_set(folder), "train")
    (folder / "images" / "A_01.png").unlink()
    with pytest.raises(InputError, match="image .*A_01.png is not there any more"):
        samples[0]


def test_coloured_label_is_refused(folder: Path) -> None:
    Image.new("RGB", (8, 6)).save(folder / "labels" / "A_01.png")
    with pytest.raises(InputError, match="A_01.png is a 'RGB' image; expected 8-bit class ids"):
        open_split(data_set(folder), "train")[0]


def test_sizes_that_differ(folder: Path) -> None:
    Image.new("L", (4, 6)).save(folder / "labels" / "A_01.png")
    with pytest.raises(InputError, match="images/A_01.png is 8x6 but its label .*labels/A_01.png is 4x6"):
        open_split(data_set(folder), "train")[0]
