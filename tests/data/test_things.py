"""Things as they are read: each with all of its own pixels, its class, and what it is called."""

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import Sample, open_split
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.folder import FolderSamples
from edgeprune.data.held_out import HeldOut
from edgeprune.data.instances import Instances
from edgeprune.data.lint import lint_labels, lint_split
from edgeprune.data.selection import FrameSelection
from tests.data.coco_files import BOX, CRATE, FLOOR, FREE, HEIGHT, WIDTH, annotation, rectangle, runs, write_set
from tests.data.layouts.drawn import LAYOUTS, boxes, compress, draw, frames

SIZE = (HEIGHT, WIDTH)


def filled(*rectangles: tuple[int, int, int, int]) -> Any:
    """Rectangles (left, top, right, bottom) as a mask."""
    mask_HW = np.zeros(SIZE, bool)
    for left, top, right, bottom in rectangles:
        mask_HW[top:bottom, left:right] = True
    return mask_HW


def read(folder: Path, *annotations: dict[str, Any], **keys: Any) -> Sample:
    """The first frame of a set with these annotations."""
    return open_split(write_set(folder, annotations, **keys), "train", things=True)[0]


def things_of(sample: Sample) -> Instances:
    assert sample.things is not None and sample.things.size == sample.label_HW.shape
    return sample.things


# ------------------------------------------------------------------------------------------------ COCO


def test_a_thing_has_the_pixels_that_lie_under_another_too(tmp_path: Path) -> None:
    sample = read(
        tmp_path,
        annotation(8, BOX, [rectangle(4, 4, 10, 10)], area=36),
        annotation(9, CRATE, [rectangle(2, 2, 20, 12)], area=180),
    )
    things = things_of(sample)
    assert things.classes_I.tolist() == [2, 1] and things.ids_I.tolist() == [
        9,
        8,
    ]  # as they are drawn: large ones first
    np.testing.assert_array_equal(things.mask(0), filled((2, 2, 20, 12)))
    np.testing.assert_array_equal(things.mask(1), filled((4, 4, 10, 10)))
    assert (sample.label_HW[4:10, 4:10] == 1).all() and sample.label_HW[3, 3] == 2 and sample.label_HW[0, 0] == 0


def test_several_parts_are_one_thing(tmp_path: Path) -> None:
    parts = [rectangle(1, 1, 5, 5), rectangle(20, 15, 30, 20), rectangle(3, 3, 8, 8)]  # two of them overlap
    things = things_of(read(tmp_path, annotation(8, BOX, parts)))
    assert len(things) == 1
    np.testing.assert_array_equal(things.mask(0), filled((1, 1, 5, 5), (20, 15, 30, 20), (3, 3, 8, 8)))


def test_run_lengths_compressed_and_not(tmp_path: Path) -> None:
    ring_HW = filled((3, 2, 20, 18)) & ~filled((6, 5, 10, 9))
    counts = runs(ring_HW)
    things = things_of(
        read(
            tmp_path,
            annotation(1, BOX, {"counts": counts, "size": SIZE}),
            annotation(2, CRATE, {"counts": compress(counts), "size": SIZE}),
        )
    )
    assert len(things) == 2
    for index in (0, 1):
        np.testing.assert_array_equal(things.mask(index), ring_HW)


def test_crowds_are_marked(tmp_path: Path) -> None:
    crowd = {"counts": runs(filled((0, 0, 32, 8))), "size": SIZE}
    things = things_of(
        read(tmp_path, annotation(1, BOX, crowd, iscrowd=1), annotation(2, BOX, [rectangle(2, 2, 8, 8)]))
    )
    assert things.crowd_I.tolist() == [True, False] and things.classes_I.tolist() == [1, 1]
    planes_PHW, classes_I = things.padded(1, 255)
    assert classes_I.tolist() == [1] + [255] * 7
    np.testing.assert_array_equal(planes_PHW[0] & 1, filled((2, 2, 8, 8)))


def test_what_follows_things_says_what_they_are_called(tmp_path: Path) -> None:
    outline = [rectangle(2, 2, 8, 8)]
    things = things_of(
        read(
            tmp_path,
            annotation(70, BOX, outline, track_id=4),
            annotation(71, BOX, outline),
            annotation("72", BOX, outline, track_id=None),
        )
    )
    assert things.ids_I.tolist() == [4, 71, 72]


@pytest.mark.parametrize("keys", [{"number": "x"}, {"number": None}, {"number": 1, "track_id": "left"}])
def test_what_is_called_by_no_number_is_told_and_hurts_no_label_map(tmp_path: Path, keys: dict[str, Any]) -> None:
    data_set = write_set(tmp_path, [annotation(category=BOX, segmentation=[rectangle(2, 2, 8, 8)], **keys)])
    assert int(open_split(data_set, "train")[0].label_HW.max()) == 1
    with pytest.raises(InputError, match=r"image a.png, annotation .*`track_id`, else `id`.* is no whole number"):
        open_split(data_set, "train", things=True)[0]


def test_an_image_without_things(tmp_path: Path) -> None:
    data_set = write_set(tmp_path, [annotation(1, BOX, [rectangle(2, 2, 8, 8)])])
    other = open_split(data_set, "train", things=True)[1]
    assert other.name == "b" and len(things_of(other)) == 0 and not other.label_HW.any()


def test_stuff_and_what_is_ignored_is_in_the_label_map_alone(tmp_path: Path) -> None:
    whole = [
        annotation(1, FLOOR, [rectangle(0, 12, 32, 24)]),
        annotation(2, FREE, [rectangle(0, 0, 4, 4)]),
        annotation(3, CRATE, [rectangle(10, 10, 14, 14)]),
    ]
    sample = read(tmp_path, *whole)
    assert things_of(sample).ids_I.tolist() == [3]
    assert (sample.label_HW[15:, :] == 3).all() and (sample.label_HW[:4, :4] == 255).all()
    every = things_of(read(tmp_path, *whole, things=[]))  # all but the background
    assert every.classes_I.tolist() == [3, 2] and every.ids_I.tolist() == [1, 3]
    assert things_of(read(tmp_path, *whole, things=["floor"])).ids_I.tolist() == [1]


def test_what_covers_no_pixel_is_no_thing(tmp_path: Path) -> None:
    between_centres, outside = rectangle(4.6, 4, 5.4, 9), rectangle(40, 2, 50, 9)
    sample = read(tmp_path, annotation(1, BOX, [between_centres]), annotation(2, BOX, [outside]))
    assert len(things_of(sample)) == 0 and not sample.label_HW.any()


def test_faults_are_told_as_of_label_maps(tmp_path: Path) -> None:
    data_set = write_set(tmp_path, [annotation(6, BOX, [])])
    with pytest.raises(InputError, match="image a.png, annotation 6: it has a box and no outline; label outlines"):
        open_split(data_set, "train", things=True)[0]
    data_set = write_set(tmp_path, [annotation(6, 8, [rectangle(2, 2, 8, 8)])])
    with pytest.raises(InputError, match="image a.png has category 8, which `ids` .* does not name"):
        open_split(data_set, "train", things=True)[0]


def test_points_that_nothing_can_be_computed_of_are_told(tmp_path: Path) -> None:
    """Such coordinates are numbers, and differences of them are none."""
    data_set = write_set(tmp_path, [annotation(6, BOX, [[-1e308, -1e308, 1e308, 1e308, -1e308, 1e308]])])
    for things in (False, True):
        with pytest.raises(InputError, match="image a.png, annotation 6: its points lie too far outside the image"):
            open_split(data_set, "train", things=things)[0]
    found = lint_split(data_set, "train")
    assert "annotation 6: its points lie too far outside" in found.problems()[0] and found.outlines is not None


# ------------------------------------------------------------------------------------------------ layouts


OUTLINED = [name for name, layout in LAYOUTS.items() if layout.layout in ("coco", "yolo")]


@pytest.mark.parametrize("name", OUTLINED)
def test_of_every_layout_with_outlines(tmp_path: Path, name: str) -> None:
    """Label maps are what they are without things, and every box that was drawn is a thing."""
    LAYOUTS[name].make(tmp_path)
    data_set = load_data_set(str(tmp_path))
    of_frame = {(split, stem): frame for split, stem, frame in frames()}
    for split in ("train", "val"):
        samples = open_split(data_set, split, things=True)
        for plain, sample in zip(open_split(data_set, split), samples, strict=True):
            np.testing.assert_array_equal(plain.label_HW, sample.label_HW)
            assert plain.things is None
            things, frame = things_of(sample), of_frame[split, sample.name]
            assert things.classes_I.tolist() == [index for index, *_ in boxes(frame)]
            np.testing.assert_array_equal(things.mask(0), draw(frame) == 1)
            np.testing.assert_array_equal(things.mask(1), draw(frame) == 2)
            assert things.crowd_I.all() == (name in ("coco run lengths", "coco compressed"))


def test_cocos_own_layout_by_a_yaml_of_a_few_lines(tmp_path: Path) -> None:
    """As it is downloaded; keys beside `layout` count, here one class of things."""
    LAYOUTS["coco as downloaded"].make(tmp_path / "coco")
    path = tmp_path / "set.yaml"
    path.write_text("path: coco\nlayout: coco\nthings: [crate]\n")
    data_set = load_data_set(str(path))
    assert [things_of(each).classes_I.tolist() for each in open_split(data_set, "val", things=True)] == [[2], [2]]
    path.write_text(
        "name: mine\npath: coco\nnames: [background, crate]\nids: {1: ignore, 3: ignore, 7: crate}\n"
        "train: {images: train2017, labels: annotations/instances_train2017.json, format: coco}\n"
        "val: {images: val2017, labels: annotations/instances_val2017.json, format: coco}\n"
    )
    assert [len(things_of(each)) for each in open_split(load_data_set(str(path)), "train", things=True)] == [1, 1, 1]


def test_lines_of_yolo_number_its_things(tmp_path: Path) -> None:
    LAYOUTS["yolo"].make(tmp_path)
    (tmp_path / "train/labels/a.txt").write_text("1 0 0 0.5 0 0.5 0.5 0 0.5\n\n0 0 0 1 0 1 1 0 1\n")
    (tmp_path / "train/labels/b.txt").unlink()
    first, second, _ = open_split(load_data_set(str(tmp_path)), "train", things=True)
    things = things_of(first)
    assert things.classes_I.tolist() == [2, 1] and things.ids_I.tolist() == [1, 3]
    assert things.areas().tolist() == [48, 192] and (first.label_HW == 1).all()
    assert len(things_of(second)) == 0


@pytest.mark.parametrize("how", ["decomposed", "capitals", "pattern"])
def test_text_files_of_yolo_are_read_under_the_names_that_they_have(tmp_path: Path, how: str) -> None:
    """One that was found and then not opened would leave a frame of background."""
    LAYOUTS["yolo"].make(tmp_path)
    data_set = load_data_set(str(tmp_path))
    expected = [len(things_of(sample)) for sample in open_split(data_set, "train", things=True)]
    names: dict[str, Callable[[str], str]] = {
        "decomposed": lambda stem: unicodedata.normalize("NFD", f"ü{stem}.txt"),
        "capitals": lambda stem: f"{stem}.TXT",
        "pattern": lambda stem: f"{stem}_seg.txt",
    }
    for path in (tmp_path / "train/labels").iterdir():
        path.rename(path.with_name(names[how](path.stem)))
    assert data_set.train is not None
    if how == "decomposed":
        for path in (tmp_path / "train/images").iterdir():
            path.rename(path.with_name(unicodedata.normalize("NFC", f"ü{path.name}")))
    elif how == "pattern":
        split = data_set.train.model_copy(update={"labels": "train/labels/{stem}_seg.txt"})
        data_set = data_set.model_copy(update={"train": split})
    samples = open_split(data_set, "train", things=True)
    assert [len(things_of(sample)) for sample in samples] == expected and min(expected) > 0
    assert isinstance(samples, FolderSamples) and all(samples.files(index)[1].is_file() for index in range(3))


def test_two_images_of_one_id_are_refused(tmp_path: Path) -> None:
    """As in two exports that were put into one: the annotations of both would be drawn on the last."""
    write_set(tmp_path, [annotation(1, BOX, [rectangle(2, 2, 8, 8)])])
    content = json.loads((tmp_path / "coco.json").read_text())
    content["images"][1]["id"] = 5
    (tmp_path / "coco.json").write_text(json.dumps(content))
    data_set = write_set(tmp_path / "other", []).model_copy(update={"path": tmp_path})
    with pytest.raises(
        InputError, match=r"coco.json: images at byte .*: a.png has the id 5 too, by which annotations are told"
    ):
        open_split(data_set, "train", things=True)


def test_a_lint_of_things_finds_what_training_would_and_counts_them(tmp_path: Path) -> None:
    each = [annotation(1, BOX, [rectangle(2, 2, 8, 8)]), annotation(2, BOX, [rectangle(9, 2, 14, 8)], iscrowd=1)]
    samples = open_split(write_set(tmp_path, each), "train", things=True)
    report = lint_labels(samples, write_set(tmp_path, each))
    assert report.things == 1 and report.problems() == []
    unnumbered = write_set(tmp_path, [annotation("x7", BOX, [rectangle(2, 2, 8, 8)])])
    assert lint_labels(open_split(unnumbered, "train"), unnumbered).problems() == []
    [line] = lint_labels(open_split(unnumbered, "train", things=True), unnumbered).problems()
    assert "is no whole number; number the things" in line


# ------------------------------------------------------------------------------------------------ splits


def test_some_of_a_split_keeps_its_things(tmp_path: Path) -> None:
    whole = [annotation(1, BOX, [rectangle(2, 2, 8, 8)]), annotation(2, BOX, [rectangle(2, 2, 8, 8)], image=1000)]
    data_set = write_set(tmp_path, whole)
    some = open_split(data_set, "train", things=True).some([1]).some([0])
    assert some.names == ["b"] and things_of(some[0]).ids_I.tolist() == [2]
    assert open_split(data_set, "train").some([1])[0].things is None


def test_what_is_held_out_has_things_where_they_are_asked_for(tmp_path: Path) -> None:
    LAYOUTS["coco polygons"].make(tmp_path)
    held_out, data_set = HeldOut(FrameSelection(data=str(tmp_path)), 0.4), load_data_set(str(tmp_path))
    [plain], [sample] = (held_out.take(open_split(data_set, "train", things=things)) for things in (False, True))
    assert plain.name == sample.name and plain.things is None and len(things_of(sample)) == 2


def test_label_maps_and_scenes_have_no_things(tmp_path: Path) -> None:
    LAYOUTS["split/kind"].make(tmp_path)
    with pytest.raises(
        InputError, match="has label maps, .*; export outlines, as COCO's JSON .*`task: semantic`"
    ) as said:
        open_split(load_data_set(str(tmp_path)), "train", things=True)
    assert "\n" not in str(said.value)
    street = {"name": "tiny", "train": {"seed": 0, "frames": 1}, "val": {"seed": 0, "frames": 1}, "names": ["a", "b"]}
    with pytest.raises(
        InputError, match="is rendered as label maps, .*; write its scenes .*street_instances FOLDER`, and name"
    ):
        open_split(DataSet.model_validate(street), "val", things=True)
