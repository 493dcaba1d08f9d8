"""Each layout that data sets come in, read by its folder alone: labels are what was drawn."""

import json
from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from edgeprune.data.known import known_classes
from edgeprune.data.layouts import describe
from edgeprune.data.layouts.written import yaml_text
from edgeprune.data.lint import lint_split
from tests.data.layouts.drawn import LAYOUTS, Labels, draw, in_a_wrapper, masks, one_pool, write_image, write_mask


def assert_reads(data: str, expected: dict[str, Labels]) -> None:
    data_set = load_data_set(data)
    for split, labels in expected.items():
        samples = open_split(data_set, split)
        assert samples.names == sorted(labels)
        for sample in samples:
            np.testing.assert_array_equal(sample.label_HW, labels[sample.name], err_msg=f"{split} {sample.name}")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_folder_alone_is_enough(tmp_path: Path, name: str) -> None:
    layout, folder = LAYOUTS[name], tmp_path / "set"
    expected = layout.make(folder)
    described = describe(folder)
    names = known_classes(layout.names).names if isinstance(layout.names, str) else layout.names
    assert described.layout == layout.layout and described.data_set().names == names
    assert "\n" not in described.lines()[0] and str(folder) in described.lines()[0]
    assert_reads(str(folder), expected)
    for split in expected:
        assert lint_split(load_data_set(str(folder)), split).problems() == []


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_yaml_that_is_written_reads_the_same(tmp_path: Path, name: str) -> None:
    folder, path = tmp_path / "set", tmp_path / "set.yaml"
    expected = LAYOUTS[name].make(folder)
    described = describe(folder)
    path.write_text(yaml_text(described, {split: len(labels) for split, labels in expected.items()}, path))
    assert load_data_set(str(path)) == load_data_set(str(folder))
    assert_reads(str(path), expected)


def test_numbers_are_no_endings_of_masks(tmp_path: Path) -> None:
    """Of image f1 `f10` may seem the mask with the ending 0."""
    for frame in range(120):
        write_image(tmp_path / "images" / f"f{frame}.jpg", frame)
        write_mask(tmp_path / "masks" / f"f{frame}_L.png", draw(frame % 5))
    assert describe(tmp_path).content["train"]["labels"] == "masks/{stem}_L.png"


def test_labelmes_folders_of_vocs_form_have_the_classes_of_their_own_file(tmp_path: Path) -> None:
    LAYOUTS["voc"].make(tmp_path)
    names = ["_background_", *(f"part {index}" for index in range(1, 21))]
    (tmp_path / "class_names.txt").write_text("\n".join(names) + "\n")
    described = describe(tmp_path)
    assert described.layout == "voc" and described.data_set().names == names
    assert any("class_names.txt" in note for note in described.notes)


def test_images_beside_a_folder_of_masks_with_an_ending(tmp_path: Path) -> None:
    for frame in range(8):
        write_image(tmp_path / f"f{frame}.jpg", frame)
        write_mask(tmp_path / "masks" / f"f{frame}_mask.png", draw(frame % 5))
    described = describe(tmp_path)
    assert sum(len(open_split(described.data_set(), split)) for split in described.splits) in range(6, 9)


def test_an_archives_outer_folder_is_passed_through(tmp_path: Path) -> None:
    expected = LAYOUTS["voc"].make(tmp_path / "VOC2012")
    assert_reads(str(in_a_wrapper(tmp_path / "VOC2012")), expected)


def test_one_folder_is_divided_by_time_with_a_gap(tmp_path: Path) -> None:
    one_pool(tmp_path, draw)
    data_set = load_data_set(str(tmp_path))
    train, val = (open_split(data_set, split).names for split in ("train", "val"))
    assert set(train) == {f"f{number}" for number in range(8, 23)}  # 20 frames: three quarters of them
    assert set(val) == {f"f{number}" for number in range(24, 28)}  # and the last fifth; 9 comes before 10
    assert any("there is no val" in line for line in describe(tmp_path).notes)


def test_a_folder_with_a_yaml_is_what_it_says(tmp_path: Path) -> None:
    expected = LAYOUTS["split/kind"].make(tmp_path)
    splits = "".join(f"{split}: {{images: {split}/images, labels: {split}/labels}}\n" for split in ("train", "val"))
    (tmp_path / "mine.yaml").write_text(f"name: mine\npath: .\n{splits}names: [floor, box, crate]\n")
    assert load_data_set(str(tmp_path)).names == ["floor", "box", "crate"]
    assert_reads(str(tmp_path), expected)
    (tmp_path / "other.yaml").write_text((tmp_path / "mine.yaml").read_text())
    with pytest.raises(InputError, match="holds 2 data-set YAMLs, mine.yaml and other.yaml; name one"):
        load_data_set(str(tmp_path))


def test_a_name_that_ships_counts_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "street").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_data_set("street").path is None


# ------------------------------------------------------------------------------------------------ which of two


def test_two_layouts_are_asked_about(tmp_path: Path) -> None:
    LAYOUTS["coco polygons"].make(tmp_path / "set")
    LAYOUTS["split/kind"].write(tmp_path / "set", draw)
    with pytest.raises(
        InputError, match=r"may be coco \(.*\) and folders \(.*\); say which: .*`layout: coco`"
    ) as found:
        load_data_set(str(tmp_path / "set"))
    assert "\n" not in str(found.value)
    path = tmp_path / "which.yaml"
    for layout, names in (("coco", ["background", "büchse", "crate"]), ("folders", ["class_0", "class_1", "class_2"])):
        path.write_text(f"path: set\nlayout: {layout}\n")
        assert load_data_set(str(path)).names == names
    path.write_text("path: set\nlayout: folders\nnames: [floor, box, crate]\nname: mine\n")
    data_set = load_data_set(str(path))
    assert (data_set.name, data_set.names) == ("mine", ["floor", "box", "crate"])
    path.write_text("path: set\nlayout: folder\n")
    with pytest.raises(InputError, match="unknown layout 'folder'; choices: .*did you mean 'folders'"):
        load_data_set(str(path))
    path.write_text("layout: folders\n")
    with pytest.raises(InputError, match="layout goes with `path`"):
        load_data_set(str(path))
    path.write_text("path: gone\nlayout: folders\n")
    with pytest.raises(InputError, match="gone is no folder; correct it"):
        load_data_set(str(path))


def test_masks_of_two_endings_are_asked_about(tmp_path: Path) -> None:
    for ending in ("_labelIds", "_instanceIds"):
        masks("{split}/images/{stem}.jpg", f"{{split}}/labels/{{stem}}{ending}.png")(tmp_path, draw)
    with pytest.raises(InputError, match=r"goes as well with .*_instanceIds.png and with .*_labelIds.png; say which"):
        load_data_set(str(tmp_path))


# ------------------------------------------------------------------------------------------------ what is refused


def refused(folder: Path, words: str) -> None:
    with pytest.raises(InputError, match=words) as found:
        data_set = load_data_set(str(folder))
        for split in ("train", "val"):
            list(open_split(data_set, split))
    assert "\n" not in str(found.value)


def test_a_folder_of_no_layout(tmp_path: Path) -> None:
    refused(tmp_path / "gone", "gone: neither a folder nor a YAML file is there")
    refused(tmp_path, "of no layout that is known: it holds nothing; expected images with masks")
    write_image(tmp_path / "a.jpg", 0)
    refused(tmp_path, "it holds a.jpg; expected images with masks")


def test_a_mask_that_is_missing(tmp_path: Path) -> None:
    LAYOUTS["mmsegmentation"].make(tmp_path)
    (tmp_path / "ann_dir/train/b.png").unlink()
    refused(
        tmp_path, "1 of 3 images in .*img_dir/train have no label: expected .*ann_dir/train/b.png; add it, or leave"
    )


def test_a_list_that_is_empty_or_names_nothing(tmp_path: Path) -> None:
    LAYOUTS["lists of stems"].make(tmp_path)
    path = tmp_path / "splits/val.txt"
    path.write_text("\n# nothing\n")
    refused(tmp_path, "file list .*val.txt is empty; expected a stem")
    path.write_text("d\nz\n")
    refused(tmp_path, "val.txt names 'z', and .*images has no such image; its stems look like 'a'")
    path.write_text("d x\ne\n")
    refused(tmp_path, "val.txt: row 2 has 1 columns, the first 2")


def test_a_pair_whose_mask_is_gone(tmp_path: Path) -> None:
    LAYOUTS["lists of pairs"].make(tmp_path)
    (tmp_path / "out/d_x.png").unlink()
    refused(tmp_path, "1 of 2 pairs that .*val.txt names are not there, such as .*out/d_x.png")


def test_masks_of_a_lossy_copy(tmp_path: Path) -> None:
    noise = np.random.default_rng(0)
    masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png")(
        tmp_path, lambda frame: noise.integers(0, 256, (12, 16, 3), np.uint8)
    )
    refused(tmp_path, r"hold \d+ colours and more, which is no palette; a lossy copy")


def test_masks_of_16_bits(tmp_path: Path) -> None:
    write = LAYOUTS["split/kind"].write
    write(tmp_path, lambda frame: np.array([0, 1000, 40_000], np.uint16)[draw(frame)])  # type: ignore[arg-type,return-value]
    data_set = load_data_set(str(tmp_path))
    assert data_set.names == ["class_0", "class_1000", "class_40000"]
    np.testing.assert_array_equal(open_split(data_set, "train")[0].label_HW, draw(0))


def test_an_id_that_was_in_none_of_the_masks_that_were_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.data.layouts.naming.LOOKED_AT", 1)
    LAYOUTS["split/kind"].make(tmp_path)
    write_mask(tmp_path / "val/labels/e.png", np.full((12, 16), 9, np.uint8))
    [line] = lint_split(load_data_set(str(tmp_path)), "val").problems()
    assert "e.png has id 9" in line and "expected 0 to 2" in line


def test_class_names_that_can_not_be_read(tmp_path: Path) -> None:
    LAYOUTS["cvat"].make(tmp_path)
    for text, words in (
        ("background:0,0::\n", "labelmap.txt can't be read"),
        ("a:0,0,999::\n", "0,0,999 is no colour"),
    ):
        (tmp_path / "labelmap.txt").write_text(text)
        refused(tmp_path, words)


def test_a_colour_that_the_legend_lacks(tmp_path: Path) -> None:
    LAYOUTS["cvat"].make(tmp_path)
    (tmp_path / "labelmap.txt").write_text("background:0,0,0::\nbox:200,30,30::\n")
    refused(
        tmp_path, r"a.png has colour \[30, 30, 200\] in 20 pixels, the first at x 9, y 7, which is none of `palette`"
    )


def test_a_background_may_be_what_nobody_labelled(tmp_path: Path) -> None:
    """As CVAT exports it; what is said of it is typed, and those pixels are ignored."""
    LAYOUTS["cvat"].make(tmp_path)
    described = describe(tmp_path)
    assert any(line.startswith("background is trained as a class; where") for line in described.notes)
    content = described.content
    number = content["names"].index("background")
    content["names"].pop(number)
    content["ignore_colours"] = [content["palette"].pop(number)]
    labelled = open_split(described.data_set(), "train")[0].label_HW
    assert set(np.unique(labelled)) - {255} <= {0, 1} and (labelled == 255).any()


def test_an_export_without_its_images(tmp_path: Path) -> None:
    LAYOUTS["cvat"].make(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
    refused(tmp_path, "no images in JPEGImages/; export it from CVAT with `Save images`")


# ------------------------------------------------------------------------------------------------ COCO and YOLO


def edit(path: Path, change: str, key: str = "annotations") -> None:
    """Python that changes `first`, the first of a file's annotations, or `content`."""
    content = json.loads(path.read_text(encoding="utf-8"))
    exec(change, {"first": content[key][0], "content": content})
    path.write_text(json.dumps(content))


COCO_FAULTS = {
    "first['segmentation'] = []": "image a.jpg, annotation 0: it has a box and no outline",
    "first['segmentation'] = [[1, 2, 3, 4]]": "annotation 0: a polygon of 2 points",
    "first['segmentation'] = [[1, 2, 3, 4, 5]]": "annotation 0: ",
    "first['segmentation'] = [[1, 2, 3, float('nan'), 5, 6]]": "annotation 0: a polygon of 3 points, or of none that is",
    "first['segmentation'] = {'counts': [1, 2], 'size': [12, 16]}": "annotation 0: its runs cover 3 pixels of 192",
    "first['segmentation'] = {'counts': '\u00e9', 'size': [12, 16]}": "annotation 0: 'é' is no character of run lengths",
    "first['segmentation'] = {'counts': [192], 'size': [16, 12]}": "annotation 0: its run lengths are of 12x16",
    "first['category_id'] = 5": "have category 5, which `categories` does not name",
    "first['category_id'] = 'x'": "annotations at byte .*invalid literal",
    "first['image_id'] = 99": "one is of image_id 99, and no image has it",
    "del first['image_id']": "annotations at byte .*'image_id' is missing",
    "content['images'][0]['width'] = -1": "image a.jpg: -1x12 is no size of an image",
    "content['images'][0]['width'] = 20": "a.jpg is 16x12 but its label .* is 20x12",
    "content['images'].append({'id': 50, 'file_name': 'z.jpg', 'height': 1, 'width': 1})": "1 of 4 images .* such as z.jpg",
    "content['images'][0]['file_name'] = 'z.jpg'": "names z.jpg, which is in none of train, train/images",
    "content['images'].append(content['images'][0])": "a.jpg has the id 0 too, by which annotations are told",
    "content['images'].append(content['images'][0] | {'id': 77})": "have two images of the stem of a.jpg",
    "del content['categories']": "have no categories; expected COCO's JSON of instances",
    "content['categories'][0]['name'] = 'other'": "train/annotations.json and val/annotations.json have other categories",
}


@pytest.mark.parametrize("change", COCO_FAULTS)
def test_annotations_with_a_fault(tmp_path: Path, change: str) -> None:
    LAYOUTS["coco polygons"].make(tmp_path)
    edit(tmp_path / "train/annotations.json", change)
    refused(tmp_path, COCO_FAULTS[change])


def test_annotations_that_are_cut_off(tmp_path: Path) -> None:
    LAYOUTS["coco polygons"].make(tmp_path)
    path = tmp_path / "train/annotations.json"
    path.write_bytes(path.read_bytes()[:-300])
    refused(tmp_path, "annotations .*annotations.json can't be read as JSON|have no categories")


YOLO_FAULTS = {
    "0 0.5 0.5 0.2 0.2": "line 1 is a box; expected a polygon",
    "0 0.5 0.5 0.2 0.2 0.1": "line 1 has 5 coordinates; expected 3 pairs",
    "0 0.5 0.5 0.2 0.2 0.1 30": "line 1 has coordinates from 0.1 to 30; expected shares",
    "box 0.5 0.5 0.2 0.2 0.1 0.1": "line 1 is no polygon; expected CLASS X Y",
    "2 0.5 0.5 0.2 0.2 0.1 0.1": "line 1 has class 2, which `ids` .* does not name",
}


@pytest.mark.parametrize("line", YOLO_FAULTS)
def test_text_files_with_a_fault(tmp_path: Path, line: str) -> None:
    LAYOUTS["yolo"].make(tmp_path)
    (tmp_path / "train/labels/a.txt").write_text(f"{line}\n")
    refused(tmp_path, YOLO_FAULTS[line])


def test_an_image_without_polygons_is_background(tmp_path: Path) -> None:
    LAYOUTS["yolo"].make(tmp_path)
    (tmp_path / "train/labels/a.txt").unlink()
    (tmp_path / "train/labels/b.txt").write_text("\n")
    train = open_split(load_data_set(str(tmp_path)), "train")
    assert [int(sample.label_HW.max()) for sample in train] == [0, 0, 2]


def test_folders_that_a_yolo_yaml_names_and_are_not_there(tmp_path: Path) -> None:
    LAYOUTS["yolo"].make(tmp_path)
    (tmp_path / "data.yaml").write_text("train: pictures\nval: val/images\nnames: [box, crate]\n")
    refused(tmp_path, "data.yaml: train: pictures is not in .*; correct it")
    (tmp_path / "data.yaml").write_text("train: train/images\nval: val/images\nnames: 3\n")
    refused(tmp_path, "data.yaml: names are no list, nor ids with their names")
