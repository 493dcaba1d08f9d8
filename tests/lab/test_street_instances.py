"""The command that writes the street's things: what it says, and what it leaves behind."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.data import open_split, street_instances
from edgeprune.data.datasets import load_data_set
from edgeprune.lab.street_instances import main

SPLITS = "train: {seed: 0, frames: 9, height: 32, width: 48}\nval: {seed: 50, frames: 9, height: 32, width: 48}\n"
NAMES = "names: [sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist]\n"


@pytest.fixture
def tiny_street(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.yaml"
    path.write_text(f"name: tiny\n{SPLITS}{NAMES}")
    return path


def type_in(*words: object) -> str:
    said = CliRunner().invoke(main, [str(word) for word in words], standalone_mode=False)
    if isinstance(said.exception, EdgepruneError):
        raise said.exception
    assert said.exception is None, said.exception
    return said.output


def test_it_writes_a_data_set_and_never_writes_over_one(tiny_street: Path, tmp_path: Path) -> None:
    said = type_in("out/set", "--data", tiny_street, "--train", 3, "--val", 2)
    assert said.startswith("wrote out/set: train 3 frames, ") and said.endswith("next: edgeprune data show out/set\n")
    assert [path.name for path in Path("out").iterdir()] == ["set"]  # no lock and nothing unfinished
    assert [len(open_split(load_data_set("out/set"), split)) for split in ("train", "val")] == [3, 2]
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")}
    with pytest.raises(InputError, match="out/set is not empty; name a new folder, or move what is in it"):
        type_in("out/set", "--data", tiny_street, "--train", 3)
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*")} == before


def test_a_run_that_fails_leaves_nothing(tiny_street: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(street_instances, "encode_runs", no_space)
    with pytest.raises(
        EdgepruneError, match="no space left while writing a data set to .*set; free some and run again"
    ):
        type_in("out/set", "--data", tiny_street, "--train", 1, "--val", 1)
    assert not Path("out/set").exists() and not list(Path().glob("out/.*"))


def test_bad_input_writes_nothing(tiny_street: Path) -> None:
    with pytest.raises(InputError, match="would both have the street of seed 50; ask for fewer frames"):
        type_in("set", "--data", tiny_street, "--train", 51)
    tiny_street.write_text(f"name: tiny\n{SPLITS}{NAMES}things: [car, tree]\n")
    with pytest.raises(InputError, match="things: 'tree' is nothing that the street counts"):
        type_in("set", "--data", tiny_street, "--train", 3)
    with pytest.raises(InputError, match="strete"):
        type_in("set", "--data", "strete")
    with pytest.raises(InputError, match="has files for train, and is no synthetic street"):
        type_in("set", "--data", "camvid")
    with pytest.raises(InputError, match="has clips of 8 frames .* give --data street --frames-per-drive 8 --speed 0"):
        type_in("set", "--data", "street-standing")
    Path("file").touch()
    with pytest.raises(InputError, match="it is a file; name a folder"):
        type_in("file", "--data", "street", "--train", 1, "--val", 1)
    assert {path.name for path in Path().iterdir()} == {"tiny.yaml", "file"}
