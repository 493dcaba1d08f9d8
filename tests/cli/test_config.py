"""`run --config`: options from a file."""

import json
from pathlib import Path

import pytest

from edgeprune.runtime.cameras import seen_from
from edgeprune.runtime.meters import meter_seen_from
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line


def write(tiny: Path, *lines: str, folder: str = "etc") -> Path:
    """A configuration in a folder beside what it names; readable for its owner alone."""
    path = Path(folder) / "run.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([f"bundle: {tiny}", "meter: none", *lines]) + "\n")
    path.chmod(0o600)
    return path


def test_options_come_from_the_file_paths_from_its_folder_and_what_is_typed_wins(
    edgeprune: Type, tiny: Path, frames: Path
) -> None:
    path = write(tiny, "camera: ../frames", "record: rows.csv", "frames: 2", "bucket: half")
    said = edgeprune("run", "--config", path, "--json")
    summary = json.loads(said.out)
    assert said.code == 0 and "others" not in said.err, said
    assert (summary["frames"], summary["buckets"]) == (2, {"half": 2})
    assert Path(summary["record"]).samefile("etc/rows.csv")
    said = edgeprune("run", "--config", path, "--frames", 4, "--bucket", "full", "--record", "typed.csv", "--json")
    summary = json.loads(said.out)
    assert (summary["frames"], summary["buckets"], summary["record"]) == (4, {"full": 4}, "typed.csv")
    (path.parent / "b").symlink_to(tiny)
    path.write_text("bundle: b\ncamera: ../frames\nmeter: file:watts.txt\nthreads: 1\n")
    (path.parent / "watts.txt").write_text("5\n")
    assert edgeprune("run", "--config", path).code == 0


def test_off_is_a_word(edgeprune: Type, tiny: Path, frames: Path) -> None:
    path = write(tiny, "camera: ../frames", "frames: 2", "pipeline: off")  # YAML's false
    assert json.loads(edgeprune("run", "--config", path, "--json").out)["pipeline"] == "off"


def test_a_restart_goes_on_with_a_record_in_a_folder(edgeprune: Type, tiny: Path, frames: Path) -> None:
    path = write(tiny, "camera: ../frames", "record: rows/", "frames: 2")
    for start in (1, 2):
        assert edgeprune("run", "--config", path).code == 0
        assert len(list(path.parent.glob("rows/rows-*.csv"))) == start


@pytest.mark.parametrize(
    ("line", "words"),
    {
        "chooser: previous-frame\nbucket: half": ["run.yaml: bucket, chooser: --bucket has no use for --chooser"],
        "budget: 33 miles": ["run.yaml: budget: unknown unit of a budget 'miles'"],
        "bucket: hlf": ["run.yaml: bucket: unknown bucket 'hlf'", "did you mean 'half'?"],
        "camera: nowhere.mp4": ["run.yaml: camera: no camera, file or folder", "etc/nowhere.mp4"],
        "camera: synthetic://street\ngive_up: 5m": ["run.yaml: give_up: ", "no live camera", "leave --give-up out"],
        "camera: 0\nloop: true": ["run.yaml: loop: camera 0 has no end to start again at"],
        "idle: 5": ["run.yaml: idle, meter: --idle measures idle power"],
        "bugdet: 33ms": ["unknown key 'bugdet'", "budget, realtime", "did you mean 'budget'?"],
        "give-up: 5m": ["unknown key 'give-up'", "did you mean 'give_up'?"],
        "json: true": ["unknown key 'json'"],
        "config: other.yaml": ["unknown key 'config'"],
        "frames: 0": ["run.yaml: frames: 0 is not in the range"],
        "frames: many": ["run.yaml: frames: input should be a valid integer", "found 'many'"],
        "idle: .nan": ["run.yaml: idle: "],
        "budget: [33ms, 10W]": ["run.yaml: budget: input should be a valid string"],
        "loop: 1": ["run.yaml: loop: input should be a valid boolean"],
        "view: true": ["run.yaml: view: input should be a valid string, found True"],
        "pipeline: on": ["run.yaml: pipeline: input should be a valid string, found True"],
        "precision: int9": ["run.yaml: precision: 'int9' is not one of"],
        "bucket: ''": ["run.yaml: bucket is empty"],
        "record:": ["run.yaml: record is empty; give it a value or leave it out"],
        "camera: ~": ["run.yaml: camera is empty"],
        "record: [a, b]": ["run.yaml: record: input should be a valid string"],
        "meter: none": ["'meter' is there twice"],
    }.items(),
)
def test_what_is_wrong_in_a_file_is_said_with_its_place(
    edgeprune: Type, tiny: Path, line: str, words: list[str]
) -> None:
    assert_one_line(edgeprune("run", "--config", write(tiny, line)), *words)


def test_what_stands_for_a_home_and_for_standard_input(
    edgeprune: Type, tiny: Path, frames: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    said = edgeprune("run", "--config", write(tiny, "camera: ../frames", "record: ~/rows.csv", "frames: 2"))
    assert said.code == 0 and (home / "rows.csv").is_file()
    assert seen_from("-", tmp_path) == "-" and seen_from("~/clip.mp4", tmp_path) == str(home / "clip.mp4")
    assert meter_seen_from("file:~/watts", tmp_path) == f"file:{home / 'watts'}"


def test_a_pair_of_which_one_is_typed(edgeprune: Type, tiny: Path) -> None:
    said = edgeprune("run", "--config", write(tiny, "chooser: in-frame"), "--bucket", "half")
    assert_one_line(said, "etc/run.yaml: chooser: --bucket has no use for --chooser")
    said = edgeprune("run", "--config", write(tiny), "--bucket", "half", "--chooser", "in-frame")
    assert_one_line(said, "edgeprune: --bucket has no use for --chooser")


def test_a_file_that_is_none(edgeprune: Type) -> None:
    assert_one_line(edgeprune("run", "--config", "no.yaml"), "configuration no.yaml is not there")
    Path("list.yaml").write_text("- camera\n")
    assert_one_line(edgeprune("run", "--config", "list.yaml"), "expected a mapping of keys to values")


def test_a_password_that_others_may_read(edgeprune: Type, tiny: Path) -> None:
    path = write(tiny, "camera: rtsp://me:secret@127.0.0.1:1/live", "give_up: 0")
    said = edgeprune("run", "--config", path)
    assert said.code == 2 and "others" not in said.err and "secret" not in said.err, said
    path.chmod(0o640)
    said = edgeprune("run", "--config", path)
    assert "run.yaml holds a camera's password, and others may read it; type: chmod 600" in said.err
    assert "secret" not in said.err
    path.write_text(f"bundle: {tiny}\ncamera: rtsp://127.0.0.1:1/live\n")
    said = edgeprune("run", "--config", path)
    assert "others" not in said.err and "unless you type --give-up 5m" in said.err
    path.chmod(0o666)
    assert "others may write to etc/run.yaml, which says what runs" in edgeprune("run", "--config", path).err
