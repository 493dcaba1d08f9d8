"""`calibrate`: on a data set, and on frames of the place where the device will hang."""

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from PIL import Image

from edgeprune.bundle import Bundle
from edgeprune.bundle.target import load_target
from edgeprune.cli.defaults import TARGET
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.inputs import BuildInputs, frames_for_parity
from edgeprune.export.precision import _score as score
from edgeprune.export.spec import describe_build
from edgeprune.model.checkpoint import save
from edgeprune.quantize.calib import Calib, read_calib
from edgeprune.runtime.cameras.source import FrameSource, Picture
from tests import models
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "model" / "svit.safetensors"
    path.parent.mkdir()
    save(path, models.card(), models.model().state_dict())
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder of ten frames without labels."""
    folder = tmp_path / "place"
    folder.mkdir()
    for index, frame_HW3 in enumerate(models.frames(10)):
        Image.fromarray(frame_HW3).save(folder / f"{index}.png")
    return folder


def test_frames_of_a_place_make_the_calibration_that_a_data_set_of_them_makes(
    edgeprune: Type, checkpoint: Path, place: Path, tmp_path: Path
) -> None:
    said = edgeprune("calibrate", checkpoint, "--camera", place, "--frames", 8)
    assert said.code == 0, said.err
    assert said.out.startswith(f"wrote out/calib/tiny.yaml: 8 frames of {place}\n")
    assert said.out.endswith(f"next: edgeprune build --checkpoint {checkpoint} --calib out/calib/tiny.yaml\n")
    assert "no labels: accuracy" in said.out and "before block" in said.out and "; before" not in said.out
    calib = read_calib(Path("out/calib/tiny.yaml"))
    assert (calib.data, calib.split, calib.frames[:3]) == (str(place), None, ["0.png", "1.png", "3.png"])
    spec = describe_build(load_target(TARGET), BuildInputs(checkpoint, calib, None), ["fp32"])
    buckets = [line.split()[0] for line in said.out.partition("buckets of a build for onnx-cpu\n")[2].splitlines()[2:7]]
    assert [bucket.name for bucket in spec.buckets] == buckets[: len(spec.buckets)]


def test_what_was_there_is_shown_beside(edgeprune: Type, checkpoint: Path, place: Path, tmp_path: Path) -> None:
    data = models.write_street(tmp_path)
    said = edgeprune("calibrate", checkpoint, "--data", data, "--split", "test", "--frames", 8, "--json")
    content = json.loads(said.out)
    assert content["calib"] == str(checkpoint.with_name("calib-svit.yaml")) and content["split"] == "test"
    assert sum(row["frames"] for row in content["buckets"]) == pytest.approx(1)
    again = edgeprune("calibrate", checkpoint, "--camera", place, "--frames", 8, "--out", "c.yaml")
    assert f"buckets of a build for onnx-cpu; before: by {data}\n" in again.out and "full" in again.out
    beside = read_calib(checkpoint.with_name("calib-svit.yaml"))  # which is still there
    assert beside.split == "test" and read_calib(Path("c.yaml")).thresholds != beside.thresholds
    kept = edgeprune(
        "calibrate", checkpoint, "--camera", place, "--frames", 8, "--out", "c.yaml", "--keep-thresholds", "--json"
    )
    calib = read_calib(Path("c.yaml"))
    assert calib.thresholds == beside.thresholds and len(calib.placing or []) == 8
    assert json.loads(kept.out)["buckets"] != content["buckets"]
    assert re.findall(r"^(new|kept|as before)[\w, -]* +[\d.]+% +[\d.]+%$", again.out, re.M) == [
        "new",
        "kept",
        "as before",
    ]
    assert [row["thresholds"] for row in json.loads(kept.out)["choices"]] == ["kept", "as before, without --calib"]


def test_a_damaged_calibration_is_said_where_it_is_needed(
    edgeprune: Type, checkpoint: Path, place: Path, tmp_path: Path
) -> None:
    checkpoint.with_name("calib-svit.yaml").write_text("model: tiny\n")
    typed = ("calibrate", checkpoint, "--camera", place, "--frames", 8, "--out", "c.yaml")
    assert_one_line(edgeprune(*typed, "--keep-thresholds"), "calib-svit.yaml: data: field required")
    assert not Path("c.yaml").exists()
    assert edgeprune(*typed).code == 0


def test_of_a_dense_model_there_is_nothing_to_measure(edgeprune: Type, place: Path, tmp_path: Path) -> None:
    card = models.card("dense")
    save(tmp_path / "dense.safetensors", card, models.model(card).state_dict())
    said = edgeprune("calibrate", "dense.safetensors", "--camera", place, "--frames", 8)
    assert said.code == 0, said.err
    assert "tiny is dense and in floats: no threshold, bucket or range is to be measured of it\n" in said.out


def test_a_region_goes_from_an_image_to_the_calibration_and_to_a_build(
    edgeprune: Type, checkpoint: Path, place: Path
) -> None:
    """Drawn at twice the size of the frames. Buckets are shares of what dense processes, outside included."""
    mask = Image.new("L", (2 * models.WIDTH, 2 * models.HEIGHT))
    mask.paste(255, (0, models.HEIGHT, 2 * models.WIDTH, 2 * models.HEIGHT))
    mask.save("mask.png")
    said = edgeprune(
        "calibrate", checkpoint, "--camera", place, "--frames", 8, "--region", "mask.png", "--out", "c.yaml"
    )
    assert said.code == 0, said.err
    assert "\nregion: 50.0% of the frame's patches, drawn as text in c.yaml, where they may be changed\n" in said.out
    full = next(line for line in said.out.splitlines() if line.startswith("full"))
    assert full.split()[1] == "50%"
    calib = read_calib(Path("c.yaml"))
    assert calib.region == ["......", "......", "######", "######"]
    spec = describe_build(load_target(TARGET), BuildInputs(checkpoint, calib, None), ["fp32"])
    assert spec.buckets[-1].counts == (12, 12, 12)
    Image.new("L", mask.size, 255).save("mask.png")
    said = edgeprune(
        "calibrate", checkpoint, "--camera", place, "--frames", 8, "--region", "mask.png", "--out", "c.yaml"
    )
    assert "mask.png reaches every patch of the frame: as without --region\n" in said.out
    assert read_calib(Path("c.yaml")).region is None


def test_a_build_looks_for_no_labels_of_a_camera(caplog: pytest.LogCaptureFixture) -> None:
    """Not even where the camera has the name of a data set that is here."""
    calib = Calib(model="tiny", data="street", frames=["0.png"])
    assert frames_for_parity(calib, Preprocess(models.HEIGHT, models.WIDTH))[1] == "the synthetic street"
    assert score(cast(Bundle, None), calib) == []
    assert "frames of street have no labels: precisions are chosen by time" in caplog.text


class Still(FrameSource):
    """A live camera that shows one picture for ever."""

    def __init__(self, uri: str):
        super().__init__(uri, live=True, fps=None)

    def one_pass(self) -> Iterator[Picture]:
        while True:
            time.sleep(0.001)
            yield Picture(models.scene(1)[0])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "name frames to calibrate on: --data DATA, or --camera CAMERA, whose frames need no labels"),
        ("--data street --camera PLACE", "--camera has no use for --data; leave one of the two out"),
        ("--camera PLACE --split val", "--split is of --data; give that too, or leave it out"),
        ("--data street --seconds 5", "--seconds is of --camera; give that too, or leave it out"),
        ("--camera PLACE --seconds 5", "place are spread over the whole of it; leave --seconds out"),
        (
            "--camera PLACE --keep-thresholds",
            "has no calibration whose thresholds could stay; leave --keep-thresholds out",
        ),
        ("--camera FEW", "few has 3 frames; 8 or more are expected"),
        ("--camera gone.mp4", "no camera, file or folder 'gone.mp4'"),
        ("--camera PLACE --out PLACE/c.yaml", "lies in"),
        ("--camera PLACE --out other.safetensors", "a calibration is a YAML file; name it other.yaml"),
        (
            "--camera PLACE --region FEW/0.png",
            "few/0.png: nothing matters, every pixel is black; paint white what matters",
        ),
        ("--camera PLACE --region gone.png", "region gone.png"),
        (
            "--camera PLACE --region square.png",
            "region square.png is 32x32 pixels, the frames are 96x64: expected their size",
        ),
    ],
)
def test_what_cannot_be_calibrated_on_is_one_line(
    edgeprune: Type, checkpoint: Path, place: Path, tmp_path: Path, words: str, line: str
) -> None:
    few = tmp_path / "few"
    few.mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32)).save(few / f"{index}.png")
    Image.new("L", (32, 32), 255).save("square.png")
    typed = words.replace("PLACE", str(place)).replace("FEW", str(few)).split()
    assert_one_line(edgeprune("calibrate", checkpoint, *typed), line)
    assert not list(tmp_path.rglob("*.yaml"))


def test_a_password_is_written_nowhere(edgeprune: Type, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Still("rtsp://me:secret@host/live")
    monkeypatch.setattr("edgeprune.cli.calibrate.open_source", lambda uri, wanted: source)
    said = edgeprune(
        "calibrate", checkpoint, "--camera", "rtsp://me:secret@host/live", "--frames", 8, "--seconds", 0.01
    )
    assert said.code == 0 and read_calib(Path("out/calib/tiny.yaml")).data == "rtsp://***@host/live"
    assert "secret" not in said.out + said.err + Path("out/calib/tiny.yaml").read_text()
