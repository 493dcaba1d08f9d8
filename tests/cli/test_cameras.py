"""`run` with several cameras: from a file, or typed."""

import json
import re
from pathlib import Path

import pytest

from edgeprune.cli.config import read_config
from edgeprune.cli.run import OPTIONS, PLACES, check_options
from tests.base.manager import Listener
from tests.cli.conftest import Type
from tests.cli.draining import drain
from tests.cli.test_bad_input import assert_one_line
from tests.cli.test_config import write
from tests.cli.test_service import USER, config, settings, start

__all__ = ["config"]


STREET = "synthetic://street?height=32&width=48&ahead=3"


def test_a_restart_goes_on_with_each_record_folder(edgeprune: Type, tiny: Path, frames: Path) -> None:
    path = write(
        tiny,
        "cameras:",
        "  front: ../frames",
        f"  rear: {STREET}&frames=4",
        "record: rows/",
        "areas: areas.jsonl",
        "budget: 1fps",
    )
    for starts in (1, 2):
        said = edgeprune("run", "--config", path, "--json")
        summary = json.loads(said.out)
        assert said.code == 0, said
        assert (summary["frames"], summary["ended"], summary["budget"]["budget"]) == (10, "finished", "2fps")
        for name, count in {"front": 6, "rear": 4}.items():
            own = summary["cameras"][name]
            assert own["frames"] == count and Path(own["record"]).samefile(f"etc/rows/{name}")
            parts = sorted(Path(f"etc/rows/{name}").iterdir())
            assert [int(part.name.split("-")[1]) for part in parts] == list(range(1, starts + 1))
            assert [len(part.read_text().splitlines()) for part in parts] == [count + 1] * starts
            assert len(Path(f"etc/areas-{name}.jsonl").read_text().splitlines()) == count
    assert sorted(each.name for each in Path("etc").iterdir()) == [
        "areas-front.jsonl", "areas-rear.jsonl", "rows", "run.yaml"
    ]  # fmt: skip
    report = json.loads(edgeprune("report", "etc/rows/front", "etc/rows/rear", "--json").out)
    assert [each["frames"] for each in report["records"]] == [12, 8]
    said = edgeprune("report", "etc/rows/")
    assert_one_line(
        said, "etc/rows has a folder for each camera; name these: edgeprune report etc/rows/front etc/rows/rear"
    )


def test_they_are_shown(edgeprune: Type, tiny: Path, frames: Path) -> None:
    said = edgeprune(
        "run", "--config", write(tiny, f"cameras: {{left: ../frames, right: '{STREET}&frames=3'}}"), "--record", "r.csv"
    )
    assert said.code == 0, said
    assert re.search(r"^left +6 +0 ", said.out, re.MULTILINE) and re.search(r"^right +3 +0 ", said.out, re.MULTILINE)
    assert re.search(r"^right( +[0-9.]+){5} +- +0 +finished$", said.out, re.MULTILINE)  # read ahead: of no age
    assert "all      9 frames (0 dropped)" in said.out and "wrote    r-left.csv (left)" in said.out
    assert "camera right has ended after 3 frames" in said.err
    assert sorted(each.name for each in Path().iterdir()) == ["etc", "frames", "r-left.csv", "r-right.csv"]


def test_frames_of_live_ones_have_an_age(edgeprune: Type, tiny: Path) -> None:
    street = f"'{STREET}&frames=3'"
    said = edgeprune("run", "--config", write(tiny, f"cameras: {{left: {street}, right: {street}}}\nrealtime: true"))
    assert said.code == 0, said
    for name in ("left", "right"):
        assert re.search(rf"^{name}( +[0-9.]+){{6}} +0 +finished$", said.out, re.MULTILINE), said.out


def test_none_is_typed_beside_them(edgeprune: Type, tiny: Path, frames: Path) -> None:
    path = write(tiny, "cameras: {a: ../frames}")
    said = edgeprune("run", "--config", path, "--camera", frames)
    assert_one_line(said, "edgeprune: the configuration names several cameras; leave --camera out")
    said = edgeprune("run", "--cameras", "a=0")
    assert said.code == 2 and "No such option '--cameras'" in said.err
    assert "--cameras" not in edgeprune("run", "--help").out


def test_exit_code_3_where_one_was_lost(edgeprune: Type, tiny: Path, frames: Path) -> None:
    (frames / "6.png").write_bytes((frames / "6.png").read_bytes()[:60])
    path = write(tiny, f"cameras: {{bad: ../frames, good: '{STREET}&frames=300'}}", "record: rows.csv")
    said = edgeprune("run", "--config", path, "--json")
    summary = json.loads(said.out)
    assert_one_line(
        said, "1 of 2 cameras was lost: bad: ", "3 frames until then are in", "rows-bad.partial.csv", code=3
    )
    assert {name: each["ended"] for name, each in summary["cameras"].items()} == {"bad": "failure", "good": "finished"}
    ended_first = "good has ended" in said.err.partition("bad is lost")[0]  # where the images were read very late
    assert ("good goes on" in said.err) != ended_first and Path("etc/rows-good.csv").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    {
        "cameras: {}": ["run.yaml: cameras is empty"],
        "cameras:": ["run.yaml: cameras is empty; give it a value or leave it out"],
        "cameras: [0, 1]": ["run.yaml: cameras: expected a name for each, such as front: ..., found list"],
        "cameras: 0": ["run.yaml: cameras: expected a name for each, such as front: ..., found int"],
        "cameras: {yes: 0}": ["run.yaml: cameras: True is no text in YAML; write it in quotes"],
        "cameras: {2026-11-27: 0}": ["run.yaml: cameras: 2026-11-27 is no text in YAML"],
        "cameras: {a: 0, a: 1}": ["'a' is there twice"],
        "cameras: {a/b: 0}": ["run.yaml: cameras: 'a/b' is no name"],
        "cameras: {a=b: 0}": ["run.yaml: cameras: ", "'a=b' is no name"],
        "cameras: {a: }": ["run.yaml: cameras.a is empty; give it a camera"],
        "cameras: {a: ''}": ["run.yaml: cameras.a is empty; give it a camera"],
        "cameras: {0: /dev/video0}": [
            "run.yaml: cameras: 0 is no text in YAML; write it in quotes, '0', or call it cam-1"
        ],
        "cameras: {a: nowhere.mp4}": ["run.yaml: cameras.a: no camera, file or folder", "etc/nowhere.mp4"],
        "cameras: {a: ../frames}\ncamera: 0": [
            "run.yaml: camera: the configuration names several",
            "leave --camera out",
        ],
        "camras: {a: ../frames}": ["unknown key 'camras'", "did you mean 'cameras'?"],
        "cameras: {a: ../frames}\nchooser: previous-frame": ["run.yaml: chooser: --chooser previous-frame goes by"],
        "cameras: {a: ../frames}\ngive_up: 5m": ["run.yaml: give_up: no camera is a live one"],
        "cameras: {a: '0', b: '1'}\nloop: true": ["run.yaml: loop: --loop is of files"],
        "cameras: {a: ../frames}\nrecord: rows": ["run.yaml: record: ", "type ", "rows.csv"],
        "cameras: {a: ../frames}\nrecord: rows/\nout: rows/": ["are one file; name two"],
        "cameras: {frames: ../frames}\nlabels: ../frames/": ["lies in", "frames, which is read"],
    }.items(),
)
def test_what_is_wrong_with_cameras(edgeprune: Type, tiny: Path, frames: Path, line: str, words: list[str]) -> None:
    assert_one_line(edgeprune("run", "--config", write(tiny, line)), *words)


def test_a_password_among_several_that_others_may_read(edgeprune: Type, tiny: Path) -> None:
    path = write(tiny, "cameras: {a: 'rtsp://me:secret@127.0.0.1:1/live', b: 0}", "give_up: 0")
    path.chmod(0o644)
    said = edgeprune("run", "--config", path)
    assert "holds a camera's password, and others may read it" in said.err and "secret" not in said.err
    assert "cameras.a: " in said.err


def test_the_example_of_the_page_is_one(edgeprune: Type) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "several-cameras.md"
    [example] = re.findall(r"```yaml\n(.*?)```", page.read_text(), re.S)
    Path("run.yaml").write_text(example)
    options = OPTIONS(**read_config(Path("run.yaml"), OPTIONS, PLACES))
    check_options(options)
    assert list(options.cameras) == ["front", "rear", "yard"] and options.cameras["yard"] == str(
        Path("clips/yard.mp4").resolve()
    )


def test_the_unit_of_several(edgeprune: Type, config: Path, tiny: Path) -> None:
    lines = ["cameras: {front: 0, csi: 'csi://0'}", "record: rows/", "out: overlay.mp4"]
    config.write_text("\n".join([f"bundle: {tiny}", *lines]) + "\n")
    (config.parent / "rows").mkdir()
    said = edgeprune("service", "--config", config, "--user", USER)
    assert said.code == 0, said
    found = settings(said.out)
    assert found["ReadWritePaths"] == str(config.parent) and found["PrivateTmp"] == "no"
    config.write_text(config.read_text() + "chooser: previous-frame\n")
    assert_one_line(
        edgeprune("service", "--config", config, "--user", USER), "chooser: --chooser previous-frame goes by"
    )


def test_sigterm_drains_all_in_a_second_of_the_processor_with_a_page(tiny: Path, tmp_path: Path) -> None:
    pytest.importorskip("uvicorn", reason="needs the page's libraries: pip install 'edgeprune[view]'")
    live = f"{STREET}&fps=15"
    (tmp_path / "run.yaml").write_text(
        f"bundle: {tiny}\ncameras: {{a: '{live}', b: '{live}&seed=2'}}\nrealtime: true\nmeter: none\nbudget: 50ms\n"
        "view: 0\nrecord: rows/\n"
    )
    with Listener(str(tmp_path / "notify")) as manager, start(tmp_path / "run.yaml", tmp_path) as process:
        try:
            told = manager.wait_for("WATCHDOG=1")
            assert told[:2] == ["READY=1", "WATCHDOG=1"]
            manager.wait_for("WATCHDOG=1")
            drain(process)
        finally:
            process.kill()
        assert process.stdout and process.stderr
        summary = json.loads(process.stdout.read())
        assert summary["ended"] == "interrupted" and "live page: http://127.0.0.1:" in process.stderr.read()
        frames = [each["frames"] for each in summary["cameras"].values()]
        assert min(frames) > 5 and abs(frames[0] - frames[1]) <= 3
    assert not list(tmp_path.rglob("*.partial*"))
