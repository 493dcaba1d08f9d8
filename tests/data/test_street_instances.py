"""The street as a data set of instances: what is written is what was rendered, and reads as any other data set."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data import open_split, street_instances
from edgeprune.data.clips import clips_in
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.drive import Drive
from edgeprune.data.instances import box_of
from edgeprune.data.polygons import decode_runs, from_runs
from edgeprune.data.street_instances import labels_of, plan_splits, write_data_set
from edgeprune.street.classes import CLASSES
from edgeprune.street.owners import COUNTED
from edgeprune.street.street import Street, scene

HEIGHT, WIDTH = 96, 128
THINGS = ["pole", "sign", "car", "pedestrian", "bicyclist"]


def street(**changed: Any) -> DataSet:
    """A small street, its seeds far apart."""
    size = {"height": HEIGHT, "width": WIDTH}
    splits = {"train": {"seed": 7, "frames": 9} | size, "val": {"seed": 500, "frames": 9} | size}
    return DataSet.model_validate({"name": "street", "names": list(CLASSES), "things": THINGS} | splits | changed)


def write(
    folder: Path, train: int, val: int, per_drive: int, data_set: DataSet | None = None, least: int = 1
) -> dict[str, int]:
    folder.mkdir()
    data_set = data_set or street()
    return write_data_set(folder, data_set, plan_splits(data_set, {"train": train, "val": val}, per_drive), least)


def content(folder: Path, split: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "annotations" / f"instances_{split}.json").read_text())
    return found


def mask_of(annotation: dict[str, Any]) -> np.ndarray:
    shape = annotation["segmentation"]
    assert shape["size"] == [HEIGHT, WIDTH]
    return from_runs(decode_runs(shape["counts"]), HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three scenes to train on, two to score on."""
    folder = tmp_path_factory.mktemp("street") / "set"
    write(folder, 3, 2, 1)
    return folder


@pytest.fixture(scope="module")
def drives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drives of three frames: seven frames of three drives, and one."""
    folder = tmp_path_factory.mktemp("street") / "set"
    write(folder, 7, 3, 3)
    return folder


def test_it_reads_as_a_data_set_does(scenes: Path) -> None:
    """By its folder: the pictures as they were rendered, and as labels the things alone."""
    data_set = load_data_set(str(scenes))
    assert data_set.name == "street-instances" and data_set.names == ["background", *THINGS]
    assert data_set.things == THINGS and data_set.palette[3] == street().palette[CLASSES.index("car")]
    place_of = np.zeros(len(CLASSES), np.uint8)
    for label in COUNTED:
        place_of[label] = data_set.names.index(CLASSES[label])
    for split, seeds in (("train", [7, 8, 9]), ("val", [500, 501])):
        samples = open_split(data_set, split)
        assert samples.names == [f"street-{seed}-0000" for seed in seeds]
        assert clips_in(samples) == [[place] for place in range(len(seeds))]  # each is another street
        for sample, seed in zip(samples, seeds, strict=True):
            image_HW3, label_HW = scene(seed, HEIGHT, WIDTH)
            assert np.array_equal(sample.image_HW3, image_HW3)
            assert np.array_equal(sample.label_HW, place_of[label_HW])


def test_annotations_say_what_was_rendered(scenes: Path) -> None:
    found = content(scenes, "train")
    assert found["categories"] == [{"id": place, "name": name} for place, name in enumerate(THINGS, 1)]
    assert [each["id"] for each in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    for image in found["images"]:
        frame = Street(image["seed"], image["height"], image["width"]).frame_with_things(image["frame"])
        own = [each for each in found["annotations"] if each["image_id"] == image["id"]]
        assert len(own) == len(frame.things) > 0
        for place, (thing, annotation) in enumerate(zip(frame.things, own, strict=True), 1):
            mask_HW = mask_of(annotation)
            assert np.array_equal(mask_HW, frame.thing_HW == place)
            left, top, width, height = annotation["bbox"]
            assert (left, top, left + width, top + height) == box_of(mask_HW)
            assert annotation["area"] == mask_HW.sum() > 0 and annotation["iscrowd"] == 0
            assert THINGS[annotation["category_id"] - 1] == CLASSES[thing.label]
            assert annotation["occlusion"] == pytest.approx(thing.occlusion, abs=1e-4)
    assert min(each["area"] for each in found["annotations"]) < 8  # small things are written too


def test_things_of_few_pixels_are_crowds_where_that_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "set", 2, 1, 1, least=64)
    found = content(tmp_path / "set", "train")["annotations"]
    assert {each["iscrowd"] for each in found if each["area"] < 64} == {1}
    assert {each["iscrowd"] for each in found if each["area"] >= 64} == {0}


def test_a_drive_is_frames_that_follow_each_other(drives: Path) -> None:
    found = content(drives, "train")
    names = [f"street-{seed}-{place:04d}.png" for seed, count in ((7, 3), (8, 3), (9, 1)) for place in range(count)]
    assert [image["file_name"] for image in found["images"]] == names
    assert open_split(load_data_set(str(drives)), "train").names == [name[:-4] for name in names]
    begin = Street(8, HEIGHT, WIDTH).moment
    assert [image["frame"] for image in found["images"][3:6]] == [begin, begin + 1, begin + 2]
    assert np.array_equal(open_split(load_data_set(str(drives)), "train")[3].image_HW3, scene(8, HEIGHT, WIDTH)[0])


def test_a_camera_that_stands_sees_what_moves_alone(tmp_path: Path) -> None:
    """The street of the seed from where its drive begins: the same place in all frames, and its light."""
    folder = tmp_path / "set"
    folder.mkdir()
    plans = plan_splits(street(), {"train": 1, "val": 3}, 3, speed=0)
    write_data_set(folder, street(), plans)
    assert content(folder, "val")["info"]["camera_speed"] == 0
    samples = open_split(load_data_set(str(folder)), "val")
    moment = Street(500, HEIGHT, WIDTH).moment
    for place, sample in enumerate(samples):
        image_HW3, _ = Drive(500, HEIGHT, WIDTH, 0).frame(moment + place)
        assert np.array_equal(sample.image_HW3, image_HW3)
    first, last = (np.asarray(samples[place].image_HW3, int) for place in (0, 2))
    stays = (np.abs(first - last).max(2) < 40).mean()
    moving = (np.abs(first - scene(500, HEIGHT, WIDTH)[0].astype(int)).max(2) < 40).mean()
    assert stays > 0.9 > moving


def test_a_track_is_of_one_drive_and_one_class(drives: Path) -> None:
    found = content(drives, "train")
    seed_of = {image["id"]: image["seed"] for image in found["images"]}
    tracks: dict[int, list[dict[str, Any]]] = {}
    for annotation in found["annotations"]:
        tracks.setdefault(annotation["track_id"], []).append(annotation)
    for each in tracks.values():
        assert len({seed_of[annotation["image_id"]] for annotation in each}) == 1
        assert len({annotation["category_id"] for annotation in each}) == 1
        assert len({annotation["image_id"] for annotation in each}) == len(each)
    assert sorted(tracks) == list(range(1, len(tracks) + 1))
    whole = [each for each in tracks.values() if len(each) == 3]
    assert len(whole) > len(tracks) / 4


def test_another_drive_has_other_tracks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where things of both have the same keys."""
    monkeypatch.setattr(street_instances, "Drive", lambda seed, *size: Drive(7, *size))
    write(tmp_path / "set", 2, 1, 1)
    found = content(tmp_path / "set", "train")["annotations"]
    one, other = ([each["track_id"] for each in found if each["image_id"] == image] for image in (1, 2))
    assert len(one) == len(other) > 0 and not set(one) & set(other)


def test_the_same_plan_writes_the_same_files(scenes: Path, tmp_path: Path) -> None:
    write(tmp_path / "set", 3, 2, 1)
    files = {path.relative_to(scenes): path.read_bytes() for path in scenes.rglob("*") if path.is_file()}
    again = {path.relative_to(tmp_path / "set"): path.read_bytes() for path in (tmp_path / "set").rglob("*.*")}
    assert files == again and len(files) == 3 + 2 + 2 + 1


def test_only_the_things_of_a_data_set_are_written(tmp_path: Path) -> None:
    counts = write(tmp_path / "set", 2, 1, 1, street(things=["car", "pedestrian"]))
    data_set = load_data_set(str(tmp_path / "set"))
    assert data_set.names == ["background", "car", "pedestrian"]
    found = content(tmp_path / "set", "train")
    assert len(found["annotations"]) == counts["train"] and {each["category_id"] for each in found["annotations"]} <= {
        1,
        2,
    }
    for image in found["images"]:
        label_HW = scene(image["seed"], HEIGHT, WIDTH)[1]
        pixels = sum(each["area"] for each in found["annotations"] if each["image_id"] == image["id"])
        assert pixels == np.isin(label_HW, [CLASSES.index("car"), CLASSES.index("pedestrian")]).sum()


def test_a_data_set_that_names_no_things_has_all() -> None:
    assert list(labels_of(street(things=[]))) == THINGS


def test_progress_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "edgeprune"):
        write(tmp_path / "set", 2, 1, 1)
    assert [record.getMessage() for record in caplog.records] == ["train: 2 of 2 frames", "val: 1 of 1 frames"]


def test_what_can_not_be_written_is_refused() -> None:
    with pytest.raises(InputError, match="things: 'building' is nothing that the street counts, which is pole, sign"):
        labels_of(street(things=["car", "building"]))
    files = {"images": "images", "labels": "labels"}
    with pytest.raises(InputError, match="has files for val, and is no synthetic street; give --data street"):
        plan_splits(street(val=files, path=Path("x")), {"train": 1, "val": 1}, 1)
    with pytest.raises(InputError, match="train and val of data set 'street' would both have the street of seed 500"):
        plan_splits(street(), {"train": 494, "val": 1}, 1)
    assert len(plan_splits(street(), {"train": 493, "val": 1}, 1)) == 2
    assert plan_splits(street(), {"train": 494, "val": 1}, 2)[0].seeds == range(7, 254)
