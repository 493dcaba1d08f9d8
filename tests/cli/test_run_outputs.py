"""Label maps, a function of the user's own, and a page."""

import json
import os
import re
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import bundles
from tests.cli.conftest import Type
from tests.cli.test_bad_input import assert_one_line


def test_run_writes_label_maps_and_calls_a_function(
    edgeprune: Type, tiny: Path, frames: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "robot", raising=False)
    Path("robot.py").write_text("def publish(result):\n    print(result.name, result.bucket, result.labels.shape)\n")
    run = ("run", "--bundle", tiny, "--camera", frames, "--meter", "none")
    said = edgeprune(*run, "--labels", "labels", "--call", "robot:publish")
    assert said.code == 0 and "wrote    labels" in said.out
    buckets = [bundles.expected_bucket(bundles.frame_with(bright)) for bright in range(3, 9)]
    shape = (bundles.H, bundles.W)
    printed = [line for line in said.err.splitlines() if ".png" in line]  # standard output has the result alone
    assert printed == [f"{index + 3}.png {name} {shape}" for index, name in enumerate(buckets)]
    for bright, bucket in zip(range(3, 9), buckets, strict=True):
        label_hw = bundles.expected_labels(bundles.frame_with(bright), bucket)
        found_HW = np.asarray(Image.open(f"labels/{bright}.png"))
        assert np.array_equal(found_HW, label_hw.repeat(bundles.CELL, 0).repeat(bundles.CELL, 1))
    assert not list(Path().glob(".*")) and not list(Path().glob("*partial*"))
    assert_one_line(edgeprune(*run, "--labels", "labels"), "labels is not empty; name a new folder")
    assert_one_line(edgeprune(*run, "--labels", frames), "is not empty")
    assert_one_line(edgeprune(*run, "--labels", "a", "--record", "a/rows.csv"), "a/rows.csv lies in a")
    for option, path in (("--labels", frames / "labels"), ("--record", frames / "a.csv"), ("--out", tiny / "a.mp4")):
        assert_one_line(edgeprune(*run, option, path), f"lies in {path.parent}, which is read; name a place outside")
    assert_one_line(edgeprune(*run, "--call", "robot:publsh"), "did you mean 'publish'")
    assert {path.name for path in Path().iterdir()} - {"__pycache__"} == {"frames", "labels", "robot.py"}


def test_a_file_that_is_there_is_replaced_and_that_is_said(edgeprune: Type, tiny: Path, frames: Path) -> None:
    run = ("run", "--bundle", tiny, "--camera", frames, "--frames", 1, "--meter", "none", "--record", "rows.csv")
    assert "is there already" not in edgeprune(*run).err
    Path("rows.csv").write_text("mine\n")
    said = edgeprune(*run)
    assert said.err.startswith("rows.csv is there already; it is replaced at the end\n")
    assert len(Path("rows.csv").read_text().splitlines()) == 2


def test_run_with_a_page(edgeprune: Type, tiny: Path, frames: Path) -> None:
    for library in ("starlette", "uvicorn", "prometheus_client"):
        pytest.importorskip(library, reason="needs the extra `view`: pip install 'edgeprune[view]'")
    run = ("run", "--bundle", tiny, "--camera", frames, "--meter", "none")
    said = edgeprune(*run, "--view", "0", "--json")
    assert said.code == 0 and json.loads(said.out)["frames"] == 6 and "view" not in json.loads(said.out)
    assert re.search(r"^live page: http://127\.0\.0\.1:[1-9]\d*/$", said.err, re.MULTILINE)
    assert_one_line(edgeprune(*run, "--view", "http://localhost"), "is no port, 0 to 65535")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert_one_line(edgeprune(*run, "--view", taken.getsockname()[1]), "is taken by another program")


def test_a_record_without_an_end(edgeprune: Type, tiny: Path, frames: Path) -> None:
    """Nothing is written around it; one that was killed before its first row leaves nothing that keeps the next away."""
    run = ("run", "--bundle", tiny, "--camera", frames, "--meter", "none")
    Path("out/rows").mkdir(parents=True)
    Path("out/rows/.lock").touch()
    os.utime("out", (0, 0))
    for count in (1, 2):
        said = edgeprune(*run, "--record", "out/rows/", "--keep", "10MB", "--json")
        assert said.code == 0 and json.loads(said.out)["record"] == "out/rows" and json.loads(said.out)["newest"] == 6
        found = sorted(Path("out/rows").iterdir())
        assert [re.sub(r"-\d+T\d+Z", "", path.name) for path in found] == [
            f"rows-0000000{number}.csv" for number in range(1, count + 1)
        ]
    assert_one_line(edgeprune(*run, "--record", frames), "is a folder; name a file, such as")
    assert os.stat("out").st_mtime == 0 and [path.name for path in Path("out").iterdir()] == ["rows"]


def test_the_summary_says_what_decoded_and_labels_have_the_size_that_frames_came_in(
    edgeprune: Type, tiny: Path, tmp_path: Path
) -> None:
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    height, width = 4 * bundles.H, 4 * bundles.W
    with av.open("film.mkv", "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for bright in range(3):
            image_HW3 = bundles.frame_with(bright).repeat(4, 0).repeat(4, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_HW3, format="rgb24")))
        container.mux(stream.encode(None))
    run = ("run", "--bundle", tiny, "--camera", "film.mkv", "--meter", "none", "--decode")
    said = edgeprune(*run, "software", "--labels", "maps/")
    assert said.code == 0 and "\ndecoder  mpeg4 (software, 1 thread)\n" in said.out and "wrote    maps" in said.out
    (folder,) = Path("maps").iterdir()
    assert sorted(each.name for each in folder.iterdir()) == [f"{index:08d}.png" for index in range(3)]
    assert np.asarray(Image.open(folder / "00000000.png")).shape == (height, width)
    summary = json.loads(edgeprune(*run, "scaled", "--labels", "maps/", "--json").out)
    assert summary["camera"]["decoder"] == (
        f"mpeg4 (software, 1 thread), {width}x{height} scaled to {bundles.W}x{bundles.H}"
    )
    second = sorted(Path("maps").iterdir())[1]
    assert np.asarray(Image.open(second / "00000000.png")).shape == (bundles.H, bundles.W)
    cameras = "{film: film.mkv, street: 'synthetic://street?height=32&width=48&frames=2'}"
    Path("run.yaml").write_text(f"bundle: {tiny}\nmeter: none\ndecode: scaled\ncameras: {cameras}\n")
    own = json.loads(edgeprune("run", "--config", "run.yaml", "--json").out)["cameras"]
    assert {name: each["camera"]["decoder"] for name, each in own.items()} == {
        "film": summary["camera"]["decoder"],
        "street": None,
    }
