"""The YAML of a data set: what is wrong with it is said in one line, with the nearest right key."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import StreetSplit, load_data_set, voc_colours

STREET = """
name: tiny
train: {seed: 0, frames: 3}
val: {seed: 100, frames: 2}
names: [near, far]
palette: [[0, 0, 0], [255, 255, 255]]
"""


def data_set_file(folder: Path, text: str) -> str:
    path = folder / "set.yaml"
    path.write_text(text)
    return str(path)


def error_of(folder: Path, text: str) -> str:
    with pytest.raises(InputError) as caught:
        load_data_set(data_set_file(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_street_is_read(tmp_path: Path) -> None:
    data_set = load_data_set(data_set_file(tmp_path, STREET))
    assert data_set.train == StreetSplit(seed=0, frames=3, height=384, width=512)
    assert data_set.test is None and data_set.path is None and data_set.ignore_index == 255


def test_without_a_palette_classes_get_the_colours_of_pascal_voc(tmp_path: Path) -> None:
    text = STREET.replace("[near, far]", "[a, b, c, d, e, f, g, h, i]")
    data_set = load_data_set(data_set_file(tmp_path, text[: text.index("palette")]))
    assert not data_set.coloured and load_data_set(data_set_file(tmp_path, STREET)).coloured
    # VOC 2012: background, aeroplane, bicycle, bird, ..., car (7), cat (8)
    assert data_set.palette[:4] == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0)]
    assert data_set.palette[7:9] == [(128, 128, 128), (64, 0, 0)]
    assert len(set(voc_colours(255))) == 255


def test_path_is_relative_to_the_file(tmp_path: Path) -> None:
    text = STREET + "path: ../elsewhere"
    assert load_data_set(data_set_file(tmp_path, text)).path == (tmp_path / "../elsewhere").resolve()


@pytest.mark.parametrize("name", ["camvid", "street", "street-small", "street-hd", "street-traffic", "street-standing"])
def test_shipped_sets_have_the_classes_of_the_street(name: str) -> None:
    data_set = load_data_set(name)
    assert len(data_set.names) == 11 and data_set.names[3] == "road" and data_set.ignore_index == 11
    assert data_set.palette == load_data_set("street").palette


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("val:", "vla:", "unknown key 'vla'; known: name, path, train, val,"),
        ("val:", "vla:", "did you mean 'val'?"),
        (
            "{seed: 0, frames: 3}",
            "{seed: 0, frame: 3}",
            "unknown key 'train.frame'; known: seed, frames, height, width, population, clip; did",
        ),
        (
            "{seed: 0, frames: 3}",
            "{images: a, lables: b}",
            "'train.lables'; known: images, labels, format, file_list, part, include, exclude; did",
        ),
        (
            "{seed: 0, frames: 3}",
            "{images: a, labels: b, part: [0.8, 0.2]}",
            "train.part: expected where it",
        ),
        (
            "{seed: 0, frames: 3}",
            "{images: a, labels: b, format: coko}",
            "train.format: input should be 'masks', 'coco'",
        ),
        ("[near, far]", "citiscapes", "choices: ade20k, cityscapes, coco-stuff, voc; did you mean 'cityscapes'"),
        ("{seed: 0, frames: 3}", "{seed: 0, frames: many}", "train.frames: input should be a valid integer"),
        ("{seed: 0, frames: 3}", "{seed: 0, frames: 0}", "found 0"),
        ("{seed: 0, frames: 3}", "{seed: 0}", "train.frames: field required"),
        ("{seed: 0, frames: 3}", "images", "train: expected a mapping of keys to values, found 'images'"),
        ("{seed: 0, frames: 3}", "{images: a, labels: b}", "image and label folders need `path`"),
        ("[near, far]", "[near, far, away]", "palette has 2 colours for 3 names"),
        ("[near, far]", "[near, far, far]", "classes 1 and 2 in names are both 'far'; rename one"),
        ("[near, far]", "[near, 'near ']", "classes 0 and 1 in names are both 'near'"),
        ("[near, far]", "[near, '']", "class 1 in names has no name"),
        (
            "[near, far]",
            "[box]",
            "names has one class, 'box'; a model needs two or more, such as names: [background, box]",
        ),
        ("[near, far]", "[]", "names is empty; a model needs two or more"),
        (
            "[near, far]",
            "[near, far]\nids: {0: near, 255: fat}",
            "ids.255: 'fat' is none of names, nor 'ignore'; did you mean",
        ),
        ("[near, far]", "[near, far]\nthings: [fat]", "things: 'fat' is none of names; did you mean 'far'?"),
        ("[near, far]", "[near, ignore]\nids: {0: near}", "a class is called 'ignore'"),
        ("[near, far]", "[near, far]\nids: {-1: near}", "ids.-1"),
        ("[near, far]", "[near, far]\nignore_index: 1", "ignore_index 1 is the id of class 'far'; use 2 to 255"),
        ("[near, far]", "[near, far]\nscore_width: 8", "score_height and score_width go together"),
        ("255, 255", "256, 255", "palette.1.0: input should be less than or equal to 255, found 256"),
        ("[near, far]", "[near, far", "not valid YAML at line 6, column 8"),
        # true, yes and on are no numbers, whatever Python thinks
        ("[near, far]", "[near, far]\nids: {true: near}", "set.yaml: ids.true: expected a number, found true"),
        ("{seed: 0, frames: 3}", "{seed: off, frames: 3}", "train.seed: expected a number, found false"),
        ("[near, far]", "[near, far]\nignore_index: yes", "ignore_index: expected a number, found true"),
        ("255, 255", "yes, 255", "palette.1.0: expected a number, found true"),
        ("[near, far]", "[near, far]\nscore_height: 1000000000\nscore_width: 8", "score_height: input should be less"),
        ("{seed: 0, frames: 3}", "{seed: -1, frames: 3}", "train.seed: input should be greater than or equal to 0"),
        ("{seed: 0, frames: 3}", "{seed: 0, frames: 1000000000}", "train.frames: input should be less than"),
        ("{seed: 0, frames: 3}", "{seed: 0, frames: 3, height: 100000}", "train.height: input should be less than"),
        # what a checkpoint and a manifest could not hold
        ("[near, far]", "[near, " + "x" * 101 + "]", "names.1: string should have at most 100 characters"),
        ("[near, far]", '[near, "a\\tb"]', "names.1: string should match pattern"),
        ("[near, far]", str([f"c{i}" for i in range(300)]), "names has 300 classes; at most 255 fit"),
    ],
)
def test_faults_are_named(tmp_path: Path, old: str, new: str, told: str) -> None:
    assert told in error_of(tmp_path, STREET.replace(old, new, 1))


def test_an_ignored_id_is_told_where_one_is_free(tmp_path: Path) -> None:
    names = str([f"c{i}" for i in range(255)])
    text = STREET.replace("[near, far]", f"{names}\nignore_index: 7").replace("palette", "ignore_colours", 1)
    assert "is the id of class 'c7'; use 255" in error_of(tmp_path, text)


def test_a_list_is_no_data_set(tmp_path: Path) -> None:
    assert "expected a mapping of keys to values, found list" in error_of(tmp_path, "- a\n- b\n")


def test_missing_file_and_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none.yaml is not there; check the path"):
        load_data_set(str(tmp_path / "none.yaml"))
    with pytest.raises(
        InputError, match="unknown data set 'camvit'; choices: camvid, car-damage, .*street.*did you mean 'camvid'"
    ):
        load_data_set("camvit")


def test_binary_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.yaml"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(InputError, match="can't be read"):
        load_data_set(str(path))


def test_a_name_that_no_file_can_have_is_not_there() -> None:
    with pytest.raises(InputError, match="unknown data set 'xxx"):
        load_data_set("x" * 300)
