"""`data lint`, `data show`, `data init` on folders as a user types them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.data import open_split
from edgeprune.data.datasets import load_data_set
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line
from tests.data.layouts.drawn import LAYOUTS, draw, masks, one_pool, write_mask


def video(folder: Path, order: list[int]) -> None:
    """A video of twenty frames in two splits: every frame is the one before it, a little brighter on one side."""
    scene = np.random.default_rng(0).integers(0, 200, (24, 32, 3))
    for place, frame in enumerate(order):
        split = "train" if place < 15 else "val"
        (folder / split / "images").mkdir(parents=True, exist_ok=True)
        picture = np.kron(np.roll(scene, frame // 2, axis=1), np.ones((8, 8, 1))).clip(0, 255).astype(np.uint8)
        Image.fromarray(picture).save(folder / split / "images" / f"f{frame}.png")
        write_mask(folder / split / "labels" / f"f{frame}.png", np.kron(draw(frame % 4), np.ones((16, 16), np.uint8)))


def test_neighbours_in_train_and_val_are_told_and_divided_by_time(edgeprune: Type, tmp_path: Path) -> None:
    order = [int(frame) for frame in np.random.default_rng(1).permutation(20)]
    video(tmp_path / "set", order)
    said = edgeprune("data", "lint", "set")
    assert said.code == 0 and "nothing wrong found in train, val" in said.out
    assert "val frames are all but equal to a train frame, such as val f" in said.out
    assert (
        f"neighbours in one video leak, and val flatters; split by time: `edgeprune data init {tmp_path}/set"
        in said.out
    )
    leak = json.loads(edgeprune("data", "lint", "set", "--json").out)["val_near_train"]
    assert leak["of"] == 5 and leak["frames"] >= 4
    assert edgeprune("data", "init", "set", "--split-by-time", 0.8).code == 0
    data_set = load_data_set("set.yaml")
    train, val = (open_split(data_set, split) for split in ("train", "val"))
    frames = [sorted(int(name.rpartition("f")[2]) for name in split.names) for split in (train, val)]
    assert frames == [list(range(15)), list(range(16, 20))]  # the one between is left out
    assert all(sample.label_HW.any() for sample in train)
    assert "neighbours in one video leak" not in edgeprune("data", "lint", "set.yaml").out


@pytest.mark.parametrize("name", ["split/kind", "coco polygons", "cityscapes labelIds"])
def test_init_writes_what_the_folder_is_and_never_writes_over_it(edgeprune: Type, tmp_path: Path, name: str) -> None:
    expected = LAYOUTS[name].make(tmp_path / "set")
    said = edgeprune("data", "init", "set")
    assert said.code == 0 and "wrote set.yaml: 3 train, 2 val frames" in said.out
    assert "path: set  #" in Path("set.yaml").read_text()
    assert load_data_set("set.yaml") == load_data_set("set")
    assert open_split(load_data_set("set.yaml"), "val").names == list(expected["val"])
    before = Path("set.yaml").read_bytes()
    assert_one_line(edgeprune("data", "init", "set"), "set.yaml is there already, and may be yours; give another --out")
    assert Path("set.yaml").read_bytes() == before
    assert edgeprune("data", "lint", "set.yaml").code == 0
    Path("set.yaml").rename(tmp_path / "set" / "set.yaml")
    assert_one_line(
        edgeprune("data", "init", "set"), "set/set.yaml says what the folder is; use it as it is: --data set/set.yaml"
    )


def test_init_of_one_folder_divides_it_where_it_is_told(edgeprune: Type, tmp_path: Path) -> None:
    one_pool(tmp_path / "set", draw)
    said = edgeprune("data", "init", "set", "--json")
    assert json.loads(said.out)["frames"] == {"train": 15, "val": 4}
    said = edgeprune("data", "init", "set", "--split-by-time", 0.5, "--out", "half.yaml")
    assert "wrote half.yaml: 9 train, 10 val frames" in said.out and not Path("half-train.txt").exists()
    assert "part: [0.0, 0.45]" in Path("half.yaml").read_text()


def test_init_says_which_frames_have_no_label(edgeprune: Type, tmp_path: Path) -> None:
    LAYOUTS["split/kind"].make(tmp_path / "set")
    (tmp_path / "set/train/labels/b.png").unlink()
    said = edgeprune("data", "init", "set")
    assert said.code == 0 and "wrote set.yaml: 2 train, 2 val frames" in said.out
    assert "train: 1 of 3 images" in said.err and "leave the image out with `exclude`" in said.err


def test_init_divides_frames_whose_names_have_spaces_and_commas(edgeprune: Type, tmp_path: Path) -> None:
    video(tmp_path / "set", list(range(20)))
    for path in (tmp_path / "set").rglob("*.png"):
        path.rename(path.with_name(f"shot, {path.name}"))
    said = edgeprune("data", "init", "set", "--split-by-time", 0.8)
    assert said.code == 0 and "15 train, 4 val frames" in said.out


def test_init_leaves_no_lists_without_their_yaml(
    edgeprune: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next try would take them for the user's own, and refuse."""
    video(tmp_path / "set", list(range(20)))

    def fail(*_: object) -> None:
        raise InputError("no room")

    with monkeypatch.context() as patched:
        patched.setattr("edgeprune.data.layouts.written.yaml_text", fail)
        assert_one_line(edgeprune("data", "init", "set", "--split-by-time", 0.8), "no room")
    assert not list(tmp_path.glob("*.txt"))
    assert edgeprune("data", "init", "set", "--split-by-time", 0.8).code == 0


def test_init_of_what_it_can_not_divide(edgeprune: Type, tmp_path: Path) -> None:
    LAYOUTS["yolo"].make(tmp_path / "set")
    said = edgeprune("data", "init", "set", "--split-by-time", 0.8)
    assert_one_line(said, "splits of COCO's JSON or of YOLO's polygons can't be divided anew; export the frames as one")
    assert_one_line(edgeprune("data", "init", "gone"), "gone is no folder; name the one that holds the images")
    assert_one_line(edgeprune("data", "init", "set", "--layout", "yollo"), "did you mean 'yolo'")
    assert_one_line(edgeprune("data", "init", "set", "--layout", "voc"), "is not of layout voc: it holds train/, val/")
    assert not list(tmp_path.glob("*.yaml")) + list(tmp_path.glob("*.txt"))


def test_show_draws_a_sheet(edgeprune: Type, tmp_path: Path) -> None:
    LAYOUTS["coco polygons"].make(tmp_path / "set")
    said = edgeprune("data", "show", "set", "--split", "val", "--out", "sheet.png")
    assert said.out == "wrote sheet.png: set, val: 2 of 2 frames, 3 classes\n"
    assert json.loads(edgeprune("data", "show", "set", "--json").out)["frames"] == ["a", "b", "c"]
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 800
    assert_one_line(edgeprune("data", "show", "set", "--out", "sheet.jpg"), "a sheet is a PNG; give it a name such as")
    assert_one_line(edgeprune("data", "show", "set", "--split", "test"), "has no split 'test'")
    assert_one_line(
        edgeprune("data", "show", "set", "--out", "set/x.png"), "x.png lies in set, which is read; name a place outside"
    )


def test_a_folder_is_a_data_set_to_eval_and_to_a_recipe(edgeprune: Type, tiny: Path, tmp_path: Path) -> None:
    masks("{split}/images/{stem}.jpg", "{split}/labels/{stem}.png")(tmp_path / "set", draw)
    assert_one_line(edgeprune("eval", "--bundle", tiny, "--data", "set"), "data set 'set' has 3 classes")
    recipe = Path("recipes") / "r.yaml"
    recipe.parent.mkdir()
    (tmp_path / "set").rename(tmp_path / "recipes" / "set")
    phase = "{kind: dense, frames: 1, data: [{data: set}]}"
    recipe.write_text(f"name: r\nmodel: {{classes: 4}}\nphases: {{dense: {phase}}}\n")
    assert_one_line(edgeprune("train", recipe), "classes")
    (tmp_path / "recipes" / "set").rename(tmp_path / "set")
    assert_one_line(edgeprune("train", recipe), "data: set is not in recipes, but in the working folder", "../set")


def test_lint_tells_what_is_odd_about_outlines_and_lets_them_pass(edgeprune: Type, tmp_path: Path) -> None:
    LAYOUTS["coco polygons"].make(tmp_path / "set")
    said = edgeprune("data", "lint", "set", "--split", "train")
    assert said.code == 0 and "things" in said.out
    assert f"categories without an annotation: 1 of 3 in {tmp_path}/set/train/annotations.json (unused)" in said.out
    assert "set: nothing that keeps labels from being used was found in train" in said.out
    path = tmp_path / "set/train/annotations.json"
    content = json.loads(path.read_text())
    content["annotations"].append(content["annotations"][0] | {"id": 77})
    path.write_text(json.dumps(content))
    said = edgeprune("data", "lint", "set", "--split", "train")
    assert said.code == 0 and "(IoU of 0.9 or more): 1 of 7 (a, annotation 77); one thing is" in said.out
    (split,) = json.loads(edgeprune("data", "lint", "set", "--split", "train", "--json").out)["splits"]
    found = {each["rule"]: each for each in split["outlines"]["found"]}
    assert found["duplicate"] == {"rule": "duplicate", "count": 1, "examples": ["a, annotation 77"]}
    assert [row["things"] for row in split["classes"]] == [0, 4, 3, 0] and split["problems"] == []
    LAYOUTS["split/kind"].make(tmp_path / "masks")
    assert json.loads(edgeprune("data", "lint", "masks", "--json").out)["splits"][0]["outlines"] is None
