"""Folder splits: pairing by stem, include and exclude, and what is said about damaged data sets."""

import shutil
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import DataSet
from edgeprune.data.labels import LabelReader
from edgeprune.data.layouts.naming import look_at_masks

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


def data_set(path: Path, **keys: Any) -> DataSet:
    """`keys`: of the train split, or of the data set."""
    split = {"images": "images", "labels": "labels"}
    own = {key: value for key, value in keys.items() if key in DataSet.model_fields}
    train = {key: value for key, value in keys.items() if key not in own}
    content = {"name": "tiny", "path": path, "train": split | train, "val": split, "names": ["near", "far"]}
    return DataSet.model_validate(content | {"palette": [(0, 0, 0), (255, 255, 255)]} | own)


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
    with pytest.raises(
        InputError, match=r"none of the split's 2 images .*include \[Z\*\] and exclude \[\].*like 'A_01'"
    ):
        open_split(spec, "train", include=["Z*"])
    with pytest.raises(
        InputError, match=r"none of the split's 4 images .*include \[Z\*\] and exclude \[A\*\].*like 'A_01'"
    ):
        open_split(data_set(folder, include=["Z*"], exclude=["A*"]), "train")


def test_who_asks_for_some_frames_does_not_move_the_ends_of_a_part(folder: Path) -> None:
    """Else frames of val would be those that train has, and what trains without a drive would learn val's."""
    first = data_set(folder, part=[0.0, 0.5])
    assert open_split(first, "train").names == ["A_01", "A_02"]
    assert open_split(first, "train", exclude=["A_01"]).names == ["A_02"]
    last = data_set(folder, part=[0.5, 1.0])
    assert open_split(last, "train", include=["*_01"]).names == ["B_01", "C_01"]
    with pytest.raises(InputError, match=r"none of the split's 2 images .*include \[A\*\]"):
        open_split(last, "train", include=["A*"])


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


@pytest.mark.parametrize("what", ["path", "images"])
def test_a_name_that_no_folder_can_have(folder: Path, what: str) -> None:
    data, long = data_set(folder), Path("x" * 300)
    assert data.train is not None
    train = data.train.model_copy(update={"images": long}) if what == "images" else data.train
    update = {"train": train, "path": long if what == "path" else data.path}
    with pytest.raises(InputError, match="is not at x{300}|images folder .* is not there"):
        open_split(data.model_copy(update=update), "train")


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


# ------------------------------------------------------------------------------------------------ how files are named


def rename(folder: Path, kind: str, name: Callable[[str], str]) -> None:
    for path in sorted((folder / kind).iterdir()):
        target = folder / kind / name(path.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)


def test_labels_with_one_ending_are_found_and_said(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    rename(folder, "labels", lambda stem: f"{stem}_mask.png")
    samples = open_split(data_set(folder), "train")
    assert samples.names == STEMS and [int(sample.label_HW[0, 0]) for sample in samples] == [0, 1, 0, 1]
    assert "named as their images with '_mask' behind" in caplog.text
    (folder / "labels" / "B_01_mask.png").unlink()
    with pytest.raises(
        InputError, match=r"4 of 4 images .* labels have names such as .*/A_01_mask.png; say how .*{stem}"
    ):
        open_split(data_set(folder), "train")


def test_an_ending_that_is_not_the_only_one_is_not_guessed(folder: Path) -> None:
    for path in sorted((folder / "labels").iterdir()):
        shutil.copy(path, path.with_name(f"{path.stem}_color.png"))
        path.rename(path.with_name(f"{path.stem}_labelIds.png"))
    with pytest.raises(InputError, match="4 of 4 images"):
        open_split(data_set(folder), "train")
    samples = open_split(data_set(folder, labels="labels/{stem}_labelIds.png"), "train")
    assert samples.names == STEMS and samples.origin(1).endswith("A_02_labelIds.png")


def test_folders_below_belong_to_the_stem(folder: Path) -> None:
    for kind in ("images", "labels"):
        rename(folder, kind, lambda stem: f"{'ulm' if stem[0] == 'A' else 'bonn'}/{stem}.png")
    assert open_split(data_set(folder), "train").names == ["bonn/B_01", "bonn/C_01", "ulm/A_01", "ulm/A_02"]
    assert open_split(data_set(folder, include=["A*", "bonn/B*"]), "train").names == [
        "bonn/B_01",
        "ulm/A_01",
        "ulm/A_02",
    ]


def test_labels_in_a_folder_below_the_images_are_no_images(folder: Path) -> None:
    for path in list((folder / "images").iterdir()):
        path.rename(folder / path.name)
    samples = open_split(data_set(folder, images="."), "train")
    assert samples.names == STEMS and samples[2].image_HW3[0, 0, 0] == 20


def test_cityscapes_names_by_patterns(folder: Path) -> None:
    rename(folder, "images", lambda stem: f"ulm/{stem}_leftImg8bit.png")
    rename(folder, "labels", lambda stem: f"ulm/{stem}_gtFine_labelIds.png")
    patterns = {"images": "images/{stem}_leftImg8bit.png", "labels": "labels/{stem}_gtFine_labelIds.png"}
    samples = open_split(data_set(folder, **patterns), "train")
    assert samples.names == [f"ulm/{stem}" for stem in STEMS] and int(samples[1].label_HW[0, 0]) == 1
    with pytest.raises(InputError, match="no images in .*expected files that fit .*left.png"):
        open_split(data_set(folder, images="images/{stem}_left.png"), "train")
    with pytest.raises(InputError, match=r"has {stem} more than once"):
        open_split(data_set(folder, images="images/{stem}/{stem}.png"), "train")
    (folder / "labels/ulm/B_01_gtFine_labelIds.png").unlink()
    with pytest.raises(InputError, match="1 of 4 .*expected .*/labels/ulm/B_01_gtFine_labelIds.png; add it"):
        open_split(data_set(folder, **patterns), "train")


def test_images_and_labels_in_one_folder(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for stem in STEMS:
        Image.open(folder / "images" / f"{stem}.png").save(folder / "labels" / f"{stem}.jpg")
    samples = open_split(data_set(folder, images="labels"), "train")
    assert samples.names == STEMS and samples.origin(3).endswith("C_01.png")
    assert "labels holds images (.jpg, .jpeg, .webp, .ppm) and labels (.png, .bmp, .tif, .tiff)" in caplog.text


def test_nfd_meets_nfc_and_hidden_files_are_left_alone(folder: Path) -> None:
    rename(folder, "images", lambda stem: unicodedata.normalize("NFD", f"ü{stem}.png"))
    rename(folder, "labels", lambda stem: unicodedata.normalize("NFC", f"ü{stem}.png"))
    for kind in ("images", "labels"):
        (folder / kind / "._x.png").write_bytes(b"\0\5\x16\7")
        (folder / kind / ".cache").mkdir()
        (folder / kind / ".cache" / "x.png").write_bytes(b"")
    samples = open_split(data_set(folder), "train")
    assert samples.names == [unicodedata.normalize("NFC", f"ü{stem}") for stem in STEMS]
    assert [int(sample.label_HW[0, 0]) for sample in samples] == [0, 1, 0, 1]


def of_two_splits(folder: Path) -> None:
    """Frames of the same names in train/ and val/ of one pool; labels of val are far."""
    for split, far in (("train", 0), ("val", 1)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir()
        for stem in STEMS:
            Image.new("RGB", (8, 6)).save(folder / "images" / split / f"{stem}.png")
            Image.fromarray(np.full((6, 8), far, np.uint8)).save(folder / "labels" / split / f"{stem}.png")


@pytest.mark.parametrize("line", ["./images/val/{}.png", "val/{}", "set/images/val/{}.PNG", "/data/val/{}.png"])
def test_a_list_names_frames_by_the_end_of_their_paths(folder: Path, line: str) -> None:
    """As YOLO's lists do: a frame of the same name in another folder is another frame."""
    of_two_splits(folder)
    (folder / "val.txt").write_text("".join(f"{line.format(stem)}\n" for stem in STEMS[:2]))
    samples = open_split(data_set(folder, file_list="val.txt"), "train")
    assert samples.names == ["val/A_01", "val/A_02"] and all(int(each.label_HW[0, 0]) == 1 for each in samples)


def test_a_name_in_a_list_that_several_have_is_refused(folder: Path) -> None:
    of_two_splits(folder)
    for kind in ("images", "labels"):
        (folder / kind / "A_01.png").unlink()
    (folder / "list.txt").write_text("A_01\n")
    with pytest.raises(InputError, match="names 'A_01', which may be 'train/A_01' or 'val/A_01'; write the path below"):
        open_split(data_set(folder, file_list="list.txt"), "train")


def test_masks_with_an_ending_in_a_folder_below_the_images_are_no_images(folder: Path) -> None:
    for path in list((folder / "images").iterdir()):
        path.rename(folder / path.name)
    rename(folder, "labels", lambda stem: f"{stem}_mask.png")
    assert open_split(data_set(folder, images=".", labels="labels/{stem}_mask.png"), "train").names == STEMS


@pytest.mark.parametrize("names", ["shot {}.png", "a, {}.png", "wide  {}.png"])
def test_names_in_a_list_of_pairs_may_have_spaces_and_commas_between_tabs(folder: Path, names: str) -> None:
    for kind in ("images", "labels"):
        rename(folder, kind, lambda stem: names.format(stem))
    rows = [[f"{kind}/{names.format(stem)}" for kind in ("images", "labels")] for stem in STEMS]
    (folder / "list.txt").write_text("".join(" \t ".join(row) + "\n" for row in rows))
    samples = open_split(data_set(folder, file_list="list.txt"), "train")
    assert [int(sample.label_HW[0, 0]) for sample in samples] == [0, 1, 0, 1]


# ------------------------------------------------------------------------------------------------ what labels hold


def test_a_line_break_in_a_name_loses_no_frame(folder: Path) -> None:
    before = len(open_split(data_set(folder), "train"))
    rename(folder, "images", lambda stem: f"a\n{stem}.png")
    rename(folder, "labels", lambda stem: f"a\n{stem}.png")
    assert len(open_split(data_set(folder), "train")) == before > 0


def read_label(folder: Path, label: Image.Image, **keys: Any) -> list[int]:
    """The class ids, in order, that a label of one row is read as."""
    label.save(folder / "labels" / "A_01.png")
    Image.new("RGB", label.size).save(folder / "images" / "A_01.png")
    return [int(index) for index in open_split(data_set(folder, **keys), "train")[0].label_HW[0]]


def row(*ids: int, dtype: type = np.uint8) -> Image.Image:
    return Image.fromarray(np.array([ids], dtype))


def test_ids_are_mapped_by_name(folder: Path) -> None:
    assert read_label(folder, row(0, 255, 0), ids={0: "near", 255: "far"}) == [0, 1, 0]
    assert read_label(folder, row(0, 1, 2, 255), ids={0: "ignore", 1: "near", 2: "far"}) == [255, 0, 1, 255]
    assert read_label(folder, row(7, 1000, 9, dtype=np.uint16), ids={7: "far", 1000: "near", 9: "far"}) == [1, 0, 1]
    assert read_label(folder, row(1, 0), ids={0: "far", 1: "near"}) == [0, 1]
    with pytest.raises(InputError, match="A_01.png has id 3 in 2 pixels, which `ids` .* does not name; .*`3: ignore`"):
        read_label(folder, row(0, 3, 3), ids={0: "near"})
    with pytest.raises(
        InputError, match="A_01.png has ids from 0 to 1000; expected 0 to 255: name the class of each in `ids`"
    ):
        read_label(folder, row(0, 1000, dtype=np.uint16))


@pytest.mark.parametrize("ids", [{}, {0: "near", 1: "far"}])
@pytest.mark.parametrize("found", [-1, 65_536, 2**31 - 1])
def test_an_id_that_no_yaml_can_name_is_not_advised_to_be_named(folder: Path, found: int, ids: dict[int, str]) -> None:
    path = folder / "A_01.tif"
    Image.fromarray(np.array([[0, found]], np.int32)).save(path)
    with pytest.raises(InputError, match=r"A_01.tif has ids from .*; expected 0 to 65535: write them anew$"):
        LabelReader(data_set(folder, ids=ids)).read(path)


def grey_png(path: Path, bits: int, rows: list[bytes], width: int) -> None:
    """A greyscale PNG of few bits, which Pillow does not write (PNG specification, sections 11.2.2 and 7.2)."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    lines = zlib.compress(b"".join(b"\0" + row for row in rows))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b""))


@pytest.mark.parametrize(("bits", "packed", "ids"), [(2, b"\x1b", [0, 1, 2, 3]), (4, b"\x01\x2f", [0, 1, 2, 15])])
def test_ids_of_few_bits_are_what_the_file_says(folder: Path, bits: int, packed: bytes, ids: list[int]) -> None:
    grey_png(folder / "labels" / "A_01.png", bits, [packed], 4)
    Image.new("RGB", (4, 1)).save(folder / "images" / "A_01.png")
    names = [f"class {index}" for index in range(16)]
    data = data_set(folder, names=names, palette=[(index, index, index) for index in range(16)])
    assert open_split(data, "train")[0].label_HW.tolist() == [ids]
    assert look_at_masks([folder / "labels" / "A_01.png"]).ids == set(ids)  # as `data init` sees them


def test_ids_are_never_scaled(folder: Path) -> None:
    assert read_label(folder, row(0, 1, 255, dtype=np.uint16)) == [0, 1, 255]
    assert read_label(folder, Image.fromarray(np.array([[False, True]]))) == [0, 1]


def test_colours_are_those_of_the_palette(folder: Path) -> None:
    palette = [(0, 0, 0), (255, 0, 0)]
    colours = Image.fromarray(np.array([[(255, 0, 0), (0, 0, 0), (224, 224, 192)]], np.uint8))
    void = {"palette": palette, "ignore_colours": [(224, 224, 192)]}
    assert read_label(folder, colours, **void) == [1, 0, 255]
    assert read_label(folder, colours.convert("RGBA"), **void) == [1, 0, 255]
    with pytest.raises(
        InputError, match=r"colour \[224, 224, 192\] in 1 pixels, the first at x 2, y 0, which is none of `palette`"
    ):
        read_label(folder, colours, palette=palette)
    with pytest.raises(InputError, match="has colours in place of ids; give the colour of each class in `palette`"):
        read_label(folder, colours, palette=[])
    with pytest.raises(InputError, match="two of `palette` and `ignore_colours` are equal"):
        read_label(folder, colours, palette=[(0, 0, 0), (0, 0, 0)])


def test_a_lossy_label_is_refused(folder: Path) -> None:
    Image.new("L", (8, 6)).save(folder / "labels" / "A_01.png", "JPEG")
    with pytest.raises(
        InputError, match="A_01.png can't be read: its content, whatever its name, is no PNG, BMP or TIFF"
    ):
        open_split(data_set(folder), "train")[0]


@pytest.mark.parametrize(("orientation", "size"), [(3, (8, 6)), (6, (6, 8))])
def test_labels_belong_to_the_upright_picture(folder: Path, orientation: int, size: tuple[int, int]) -> None:
    """Red is the top left quarter of the upright picture, and class 1."""
    label_HW = np.zeros((size[1], size[0]), np.uint8)
    label_HW[: size[1] // 2, : size[0] // 2] = 1
    upright_HW3 = np.zeros((*label_HW.shape, 3), np.uint8)
    upright_HW3[..., 0] = 200 * label_HW
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright_HW3, {3: 2, 6: 1}[orientation])))
    stored.save(folder / "images" / "A_01.png", exif=exif)
    Image.fromarray(label_HW).save(folder / "labels" / "A_01.png")
    sample = open_split(data_set(folder), "train")[0]
    np.testing.assert_array_equal(sample.image_HW3[..., 0] == 200, sample.label_HW == 1)


def test_a_label_drawn_on_the_turned_picture_is_told_why(folder: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.new("RGB", (8, 6)).save(folder / "images" / "A_01.png", exif=exif)
    with pytest.raises(
        InputError, match="A_01.png is 6x8 but its label .* is 8x6; .*upright as its EXIF orientation turns it"
    ):
        open_split(data_set(folder), "train")[0]


def test_sizes_that_differ(folder: Path) -> None:
    Image.new("L", (4, 6)).save(folder / "labels" / "A_01.png")
    with pytest.raises(InputError, match="images/A_01.png is 8x6 but its label .*labels/A_01.png is 4x6"):
        open_split(data_set(folder), "train")[0]
