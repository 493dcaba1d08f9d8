"""Names of cameras, and of what each one writes."""

from pathlib import Path

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.several.names import MOST, check_cameras, outputs_of_cameras


def test_names_that_can_be() -> None:
    check_cameras({"front": "rtsp://me:a=b@host/path?channel=1", "cam-2": "0", "r_3": "-", "7": "a=b.mp4"})


@pytest.mark.parametrize(
    ("cameras", "words"),
    [
        ({"": "0"}, "'' is no name"),
        ({"a/b": "0"}, "'a/b' is no name, which is 1 to 32 letters, digits, '-' and '_'"),
        ({"..": "0"}, "'..' is no name"),
        ({"-x": "0"}, "'-x' is no name"),
        ({"a b": "0"}, "'a b' is no name"),
        ({"a" * 33: "0"}, "is no name"),
        ({"vörne": "0"}, "is no name"),
        ({"front": "0", "Front": "1"}, "front and Front are one name to some disks"),
        ({"front": ""}, "cameras.front is empty; give it a camera: 0, /dev/video0"),
        ({"a": "-", "b": "-"}, "standard input is one stream"),
        ({f"c{each}": "0" for each in range(MOST + 1)}, f"there are {MOST + 1}, {MOST} at most"),
    ],
)
def test_what_can_not_be(cameras: dict[str, str], words: str) -> None:
    with pytest.raises(InputError) as refused:
        check_cameras(cameras)
    assert words in str(refused.value) and str(refused.value).startswith("cameras")


def test_each_camera_has_its_own_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there").mkdir()
    names = {"record": "out/rows.jsonl/", "areas": "there", "out": "film/over.lay.mp4", "labels": "labels"}
    assert outputs_of_cameras(names, ["front", "rear"]) == {
        camera: {
            "record": f"out/rows.jsonl/{camera}.jsonl/",
            "areas": f"there/{camera}/",
            "out": f"film/over.lay-{camera}.mp4",
            "labels": f"labels/{camera}",
        }
        for camera in ("front", "rear")
    }
    assert outputs_of_cameras({"record": "rows.csv", "labels": "l.npz"}, ["b"]) == {
        "b": {"record": "rows-b.csv", "labels": "l-b.npz"}
    }


def test_topics_are_split_and_a_page_is_shared() -> None:
    pytest.importorskip("paho.mqtt", reason="needs the extra `mqtt`: pip install 'edgeprune[mqtt]'")
    names = {"mqtt": "mqtts://me@host:99/street/", "call": "os.path:basename"}
    assert outputs_of_cameras(names, ["a"]) == {
        "a": {"mqtt": "mqtts://me@host:99/street/a", "call": "os.path:basename"}
    }


@pytest.mark.parametrize(
    ("key", "name", "words"),
    [
        ("record", "rows", "a record is written as .csv or .jsonl, not 'rows'; type rows.csv"),
        ("out", "overlay.avi", "type overlay.mp4"),
        ("areas", "-", "standard output has the run's own result alone"),
        ("labels", "labels.png", "labels.png is no folder"),
    ],
)
def test_a_name_that_can_not_be_split_is_refused_as_it_was_typed(key: str, name: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        outputs_of_cameras({key: name}, ["front"])
    assert words in str(refused.value) and "front" not in str(refused.value)
