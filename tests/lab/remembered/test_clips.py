"""What the study shows: frames at the input's size, with labels where a clip has some."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.lab.remembered.clips import read_clip, read_data
from edgeprune.lab.through_time.scores import IGNORED
from tests import models
from tests.models import STREET

STREET_THINGS = {2, 6, 8, 9, 10}


FRAMES = {9: 3, 10: 8, 11: 250}  # their labels by their numbers


def write_frame(folder: Path, name: str, red: int, label: int) -> None:
    Image.new("RGB", (96, 64), (red, 0, 0)).save(folder / "images" / f"{name}.png")
    Image.new("L", (96, 64), label).save(folder / "labels" / f"{name}.png")


def write_set(folder: Path, names: list[str]) -> str:
    """Three frames of one colour each, of its number, whose labels are that number, or where there is none, ignored."""
    for place in ("images", "labels"):
        (folder / place).mkdir()
    for number, label in FRAMES.items():
        write_frame(folder, f"frame{number}", number, label)
    split = "{images: images, labels: labels}"
    lines = ["name: three", "path: .", f"train: {split}", f"val: {split}", f"names: [{', '.join(names)}]"]
    (folder / "three.yaml").write_text("\n".join([*lines, "things: [car]", "ignore_index: 250", ""]))
    return str(folder / "three.yaml")


def test_a_data_set_is_a_clip_in_the_order_of_its_numbers(cpu: Bundle, tmp_path: Path) -> None:
    data = write_set(tmp_path, list(STREET.names))
    [clip] = read_data(data, cpu, Preprocess.of(cpu.manifest), 100)
    size = (cpu.manifest.height, cpu.manifest.width)
    assert [int(image[0, 0, 0]) for image in clip.images] == [9, 10, 11]
    assert [None if true is None else np.unique(true).tolist() for true in clip.true] == [[3], [8], [IGNORED]]
    assert {each.shape for each in clip.true if each is not None} == {size}
    assert clip.pictures == [(slice(0, size[0]), slice(0, size[1]))] * 3
    assert clip.name == "three, val" and clip.things == {STREET.names.index("car")}


def test_drives_of_a_data_set_are_clips_with_a_cut_between(cpu: Bundle, tmp_path: Path) -> None:
    data = write_set(tmp_path, list(STREET.names))
    for number in (1, 2, 3, 4):
        write_frame(tmp_path, f"yard{number}", 100 + number, 3)
    write_frame(tmp_path, "alone7", 200, 3)
    clips = read_data(data, cpu, Preprocess.of(cpu.manifest), 3)
    assert {clip.name: [int(image[0, 0, 0]) for image in clip.images] for clip in clips} == {
        "three, val, frame9": [9, 10, 11],
        "three, val, yard1": [101, 102, 103],
    }
    for number in (10, 11):
        (tmp_path / "images" / f"frame{number}.png").unlink()
    for number in (1, 2):
        (tmp_path / "images" / f"yard{number}.png").unlink()
    with pytest.raises(InputError, match="the longest clip of three, val, has 2 frames, expected 3 or more"):
        read_data(data, cpu, Preprocess.of(cpu.manifest), 100)


def test_a_data_set_of_other_classes_is_refused(cpu: Bundle, tmp_path: Path) -> None:
    data = write_set(tmp_path, [*STREET.names[:-1], "boat"])
    with pytest.raises(InputError, match="class 10 is 'boat' in data set 'three'"):
        read_data(data, cpu, Preprocess.of(cpu.manifest), 100)


def test_scenes_of_the_street_are_no_clip(cpu: Bundle, tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    with pytest.raises(InputError, match="the longest clip of street, val, has 1 frames, expected 3 or more"):
        read_data(data, cpu, Preprocess.of(cpu.manifest), 100)
    path = Path(data)
    standing = yaml.safe_load(path.read_text())
    standing["val"] |= {"frames": 6, "clip": 3}
    path.write_text(yaml.safe_dump(standing))
    clips = read_data(data, cpu, Preprocess.of(cpu.manifest), 100)
    assert {clip.name: len(clip.images) for clip in clips} == {
        "street, val, street-5000-0": 3,
        "street, val, street-5001-0": 3,
    }


def test_the_street_has_labels_and_things_and_images_have_none(tmp_path: Path) -> None:
    fit = Preprocess(64, 96)
    street = read_clip(uri := "synthetic://street?seed=900000003&height=128&width=192", STREET.names, fit, 3)
    assert len(street.images) == 3 and street.images[0].shape == (64, 96, 3)
    assert [None if true is None else true.shape for true in street.true] == [(64, 96)] * 3
    assert street.things == STREET_THINGS
    other = read_clip(uri, [*STREET.names[:-1], "boat"], fit, 3)  # whose third class is another thing
    assert other.true == [None] * 3 and not other.things
    for number in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / f"{number}.png")
    images = read_clip(str(tmp_path), STREET.names, fit, 100)
    assert images.pictures == [(slice(0, 64), slice(16, 80))] * 3  # they are square
    assert images.true == [None] * 3 and not images.things
