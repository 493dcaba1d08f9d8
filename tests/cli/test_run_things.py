"""`run` and `edgeprune.open` with a bundle that finds things: counted in the record, listed as JSON lines, drawn, reported."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import edgeprune as package
from edgeprune.data.polygons import decode_runs, from_runs
from tests import bundles
from tests.cli.conftest import Type
from tests.cli.test_config import write
from tests.runtime.rows import ledger_of, read

BRIGHT = range(3, 9)  # cells of the frames
SIZE = (bundles.H, bundles.W)


@pytest.fixture(scope="session")
def finding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle of the task `instance` (see `tests/bundles.py`)."""
    folder = tmp_path_factory.mktemp("things") / "bundle"
    bundles.write_bundle(folder, precisions=("fp32",), task="instance")
    return folder


def expected(bright: int) -> dict[str, np.ndarray]:
    """What the graphs find in a frame, as the bucket that it gets has it; best score first."""
    frame_HW3 = bundles.frame_with(bright)
    tail = list(bundles.BUCKETS).index(bundles.expected_bucket(frame_HW3)) + 1
    found = bundles.expected_things(frame_HW3, tail)
    kept = found["scores"] >= 0.5
    return {name: each[kept] for name, each in found.items()}


def enlarged(level_hw: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(level_hw).resize((bundles.W, bundles.H), Image.Resampling.BILINEAR)) >= 128


def test_counts_are_in_the_record_and_things_are_lines_of_json(edgeprune: Type, finding: Path, frames: Path) -> None:
    run = ("run", "--bundle", finding, "--camera", frames, "--meter", "none")
    said = edgeprune(*run, "--record", "rows.csv", "--areas", "things.jsonl", "--labels", "labels", "--json")
    assert said.code == 0, said
    summary, rows, lines = json.loads(said.out), read("rows.csv"), read("things.jsonl")
    assert len(rows) == len(lines) == len(BRIGHT)
    for bright, row, line in zip(BRIGHT, rows, lines, strict=True):
        things = expected(bright)
        names = [bundles.NAMES[class_id] for class_id in things["classes"]]
        assert json.loads(row["things"]) == line["counts"] == {name: names.count(name) for name in names}
        assert (line["name"], line["size"]) == (f"{bright}.png", list(SIZE))
        assert [each["name"] for each in line["things"]] == names
        assert [each["class"] for each in line["things"]] == things["classes"].tolist()
        assert [each["score"] for each in line["things"]] == pytest.approx(things["scores"].tolist(), abs=1e-4)
        label_HW = np.full(SIZE, 255, np.uint8)
        for number, each in reversed(list(enumerate(line["things"]))):
            places = things["boxes"][number] * np.array([bundles.W, bundles.H] * 2)
            assert each["box"] == pytest.approx(places.tolist(), abs=0.051)
            assert each["mask"]["size"] == list(SIZE)
            mask_HW = from_runs(decode_runs(each["mask"]["counts"]), *SIZE)
            assert np.array_equal(mask_HW, enlarged(things["masks"][number]))
            label_HW[mask_HW] = each["class"]
        assert np.array_equal(np.asarray(Image.open(f"labels/{bright}.png")), label_HW)
        covered = {name: share for name, share in line["areas"].items() if share}
        assert set(covered) == set(names)
    of_class = {name: [json.loads(row["things"]).get(name, 0) for row in rows] for name in ("class1", "class2")}
    assert summary["things"] == {
        name: {"mean": pytest.approx(np.mean(each)), "most": max(each), "frames": sum(map(bool, each))}
        for name, each in of_class.items()
    }
    assert ledger_of(rows).things.figures() == ledger_of(read_as_json(edgeprune, run)).things.figures()


def read_as_json(edgeprune: Type, run: tuple[object, ...]) -> list[dict[str, object]]:
    assert edgeprune(*run, "--record", "rows.jsonl").code == 0
    return read("rows.jsonl")


def test_a_person_reads_how_many_there_are(edgeprune: Type, finding: Path, frames: Path) -> None:
    said = edgeprune("run", "--bundle", finding, "--camera", frames, "--meter", "none", "--record", "rows.csv")
    assert said.code == 0 and re.search(
        r"^things   class1 1\.00 \(1 at most\), class2 \d\.\d\d .* a frame$", said.out, re.M
    )
    said = edgeprune("report", "rows.csv")
    assert said.code == 0 and re.search(r"^rows\.csv +class1 +1\.00 +1 +6$", said.out, re.M)
    assert json.loads(edgeprune("report", "rows.csv", "--json").out)["records"][0]["things"]["class1"]["most"] == 1


def test_of_a_task_that_finds_none_nothing_is_said(edgeprune: Type, tiny: Path, frames: Path) -> None:
    run = ("run", "--bundle", tiny, "--camera", frames, "--meter", "none", "--record", "rows.csv", "--areas", "a.jsonl")
    said = edgeprune(*run)
    assert said.code == 0 and "things" not in said.out and {row["things"] for row in read("rows.csv")} == {""}
    assert list(read("a.jsonl")[0]) == ["index", "time", "name", "presentation_s", "areas"]
    assert "class1" not in edgeprune("report", "rows.csv").out
    assert json.loads(edgeprune(*run, "--json").out)["things"] is None


def test_each_of_several_cameras_has_its_own(edgeprune: Type, finding: Path, frames: Path) -> None:
    path = write(finding, "cameras: {left: ../frames, right: ../frames}", "areas: things/", "record: rows.jsonl")
    said = edgeprune("run", "--config", path, "--json")
    assert said.code == 0, said
    summary = json.loads(said.out)
    for name in ("left", "right"):
        [file] = Path(f"etc/things/{name}").iterdir()
        assert [len(line["things"]) for line in read(file)] == [len(expected(bright)["scores"]) for bright in BRIGHT]
        assert summary["cameras"][name]["things"] == summary["things"] | {
            key: each | {"frames": each["frames"] // 2} for key, each in summary["things"].items()
        }


def test_a_film_shows_them(edgeprune: Type, finding: Path, frames: Path) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    said = edgeprune("run", "--bundle", finding, "--camera", frames, "--meter", "none", "--out", "overlay.mp4")
    assert said.code == 0, said
    with av.open("overlay.mp4") as container:
        assert [(frame.height, frame.width) for frame in container.decode(video=0)] == [SIZE] * len(BRIGHT)


def test_from_python(finding: Path, frames: Path) -> None:
    with package.open(finding, str(frames)) as stream:
        for result, bright in zip(stream, BRIGHT, strict=True):
            things = expected(bright)
            assert [thing.class_id for thing in result.things] == things["classes"].tolist()
            assert all(thing.mask_HW.shape == SIZE for thing in result.things)
            assert sum((result.counts() or {}).values()) == len(result.things)
            assert result.overlay().shape == (*SIZE, 3)
    with package.open(finding) as stream:
        wide_HW3 = np.full((bundles.H, 2 * bundles.W, 3), 200, np.uint8)  # in the middle of the input, between bars
        best, other = stream.segment(wide_HW3).things
        assert (best.name, other.name) == ("class2", "class1")
        assert best.box == pytest.approx((0, 0, 2 * bundles.W, bundles.H))
        assert best.mask_HW.shape == (bundles.H, 2 * bundles.W)
        assert best.mask_HW[bundles.H // 4 : -bundles.H // 4].all()
