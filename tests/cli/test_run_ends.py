"""How a run ends, and what it leaves: signals, a second run, a camera that is lost, outputs that are inputs."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.runtime.cameras import open_source
from tests import bundles
from tests.cli.conftest import Type
from tests.cli.draining import drain
from tests.cli.test_bad_input import assert_one_line
from tests.runtime.cameras.test_rtsp import Server

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

STREET = "synthetic://street?height=64&width=96&ahead=4&fps=15"
OUTPUTS = ("--out", "overlay.mp4", "--record", "rows.csv", "--meter", "none")
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tiny: Path, tmp_path: Path) -> Iterator[Start]:
    """start("--realtime", ...): a run in another process, in `tmp_path`; it has recorded `rows` rows."""
    processes = []

    def begin(*words: str, rows: int = 3) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", "from edgeprune.cli import main; main()", "run", "--bundle", str(tiny)]
        pipe = subprocess.PIPE
        camera = () if "--camera" in words else ("--camera", STREET)
        process = subprocess.Popen(
            [*command, *camera, *OUTPUTS, *words], stdout=pipe, stderr=pipe, text=True, cwd=tmp_path
        )
        processes.append(process)
        record = tmp_path / "rows.partial.csv"
        for _ in range(3000):
            if record.exists() and record.read_bytes().count(b"\n") > rows:
                return process
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        raise AssertionError("no rows")

    yield begin
    for process in processes:
        process.kill()
        process.communicate()


def read(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("pipeline", ["off", "all"])
def test_a_run_that_is_killed_loses_no_row_and_a_second_of_video(
    start: Start, tmp_path: Path, edgeprune: Type, tiny: Path, pipeline: str
) -> None:
    process = start("--realtime", "--pipeline", pipeline, rows=45)
    process.kill()
    process.communicate()
    rows = read(tmp_path / "rows.partial.csv")
    assert len(rows) >= 45 and rows[-1]["dropped"]  # to the last cell
    lasted_s = (int(rows[-1]["capture_ns"]) - int(rows[0]["capture_ns"])) / 1e9
    frames = list(open_source(str(tmp_path / "overlay.partial.mp4")))
    shown_s = frames[-1].presentation_s
    assert shown_s is not None and shown_s > lasted_s - 1 - 2 / 15 and lasted_s > 2
    kept = (tmp_path / "rows.partial.csv").read_bytes()
    said = edgeprune(
        "run", "--bundle", tiny, "--camera", STREET, *OUTPUTS, "--frames", 3
    )  # the owner of its lock is dead
    assert said.code == 0, said
    assert (tmp_path / "rows.partial.csv").read_bytes() == kept
    names = ["overlay.mp4", "overlay.partial.mp4", "rows.csv", "rows.partial.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("pipeline", ["off", "all"])
def test_a_second_run_is_refused_and_sigterm_ends_the_first_well(
    start: Start, edgeprune: Type, tiny: Path, tmp_path: Path, pipeline: str
) -> None:
    process = start("--realtime", "--json", "--pipeline", pipeline)
    run = ("run", "--bundle", tiny, "--camera", STREET, "--frames", 3, "--meter", "none")
    assert_one_line(
        edgeprune(*run, "--record", "rows.csv"), "rows.csv is being written by", f"process {process.pid} on"
    )
    assert_one_line(edgeprune(*run, "--out", "overlay.mp4"), "overlay.mp4 is being written by")
    process.send_signal(signal.SIGTERM)
    said, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    summary = json.loads(said)
    assert summary["ended"] == "interrupted" and summary["failure"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.mp4", "rows.csv"]
    assert (
        len(read(tmp_path / "rows.csv")) == len(list(open_source(str(tmp_path / "overlay.mp4")))) == summary["frames"]
    )


@pytest.fixture
def film(tmp_path: Path) -> Path:
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = bundles.W, bundles.H, "yuv420p"
        for index in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(bundles.frame_with(index), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_outputs_that_are_inputs(
    edgeprune: Type, tiny: Path, film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = film.read_bytes()
    (tmp_path / "link.mp4").symlink_to(film)
    run = ("run", "--bundle", tiny, "--meter", "none")
    for out in ("film.mp4", "./film.mp4", "link.mp4"):
        assert_one_line(edgeprune(*run, "--camera", film, "--out", out), "is what is read from", "name another file")
    assert_one_line(edgeprune(*run, "--camera", "link.mp4", "--out", film), "is what is read from")
    partial = film.rename(tmp_path / "film.partial.mp4")  # what a failed run kept, looked at again
    assert edgeprune(*run, "--camera", partial, "--out", "film.mp4").code == 0
    assert partial.read_bytes() == before
    assert_one_line(edgeprune(*run, "--camera", "film.mp4", "--out", partial), "a run that failed has kept")
    os.mkfifo("pipe.mp4")
    assert_one_line(edgeprune(*run, "--camera", partial, "--out", "pipe.mp4"), "is neither a file nor a folder")
    monkeypatch.setattr("edgeprune.runtime.cameras.pipe.OPEN_TIMEOUT_S", 0.1)
    assert_one_line(edgeprune(*run, "--camera", "pipe.mp4"), "came from pipe.mp4 within 0.1 s; start what writes to it")
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.fromarray(bundles.frame_with(3)).save(folder / "0.png")
    (tmp_path / "b").symlink_to(tiny)
    for place in ("folder/rows.csv", "folder/new/rows.csv", "b/rows.csv"):
        assert_one_line(
            edgeprune(*run, "--camera", folder, "--record", place), f"{place} lies in", "a place outside of it"
        )
    assert_one_line(edgeprune(*run, "--camera", folder, "--record", "a.csv", "--out", "a.mp4", "--bucket", "no"), "no")
    assert not list(tmp_path.glob("*.lock")) and not list(tmp_path.glob(".*"))


def test_damage_is_counted_and_a_failure(edgeprune: Type, tiny: Path, film: Path) -> None:
    with av.open(str(film)) as container:
        third = [packet for packet in container.demux(video=0) if packet.size][2]
    data = bytearray(film.read_bytes())
    at = data.index(bytes(third)) + third.size // 3
    data[at : at + 20] = np.random.default_rng(0).integers(0, 256, 20, np.uint8).tobytes()
    film.write_bytes(data)
    said = edgeprune("run", "--bundle", tiny, "--camera", film, "--record", "rows.csv", "--meter", "none", "--json")
    summary = json.loads(said.out)
    assert_one_line(said, "3 damaged ones were left out", "2 frames until then are in rows.partial.csv", code=3)
    assert (summary["frames"], summary["camera"]["damaged"], summary["ended"]) == (2, 3, "failure")
    assert [row["presentation_s"] for row in read(Path("rows.partial.csv"))] == ["0.0", "0.1"]


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_network_camera(edgeprune: Type, tiny: Path, goodbye: bool) -> None:
    server = Server(40, goodbye=goodbye)
    server.finish.set()
    at = server.uri.removeprefix("rtsp://").removesuffix("/live")
    camera = f"rtsp://me:secret@{at}/user=me_password=secret_channel=1?pwd=secret"
    run = ("run", "--bundle", tiny, "--camera", camera, "--record", "rows.csv", "--meter", "none", "--json")
    said = edgeprune(*run, "--give-up", 0)
    assert "secret" not in said.out + said.err, said
    summary = json.loads(said.out)
    shown = f"rtsp://***@{at}/user=***_password=***_channel=1?pwd=***"
    assert summary["camera"]["uri"] == shown and summary["failure"]
    assert_one_line(said, f"the connection to camera {shown} is lost", "are in rows.partial.csv", code=3)


def test_a_camera_that_is_lost_is_reconnected_and_given_up(edgeprune: Type, tiny: Path) -> None:
    """One that hangs up twice, gives a recording of an announced length at the third time, and is there no more."""
    run = ("run", "--bundle", tiny, "--record", "rows.csv", "--meter", "none", "--json", "--give-up")
    server = Server(40, length_s=1.6, lost=1)
    server.finish.set()
    said = edgeprune(*run, "30s", "--camera", server.uri)
    assert said.code == 0 and said.err.count("it ended the stream); reconnecting for up to 30 s") == 1, said
    summary, rows = json.loads(said.out), read(Path("rows.csv"))
    assert (summary["camera"]["reconnects"], summary["ended"]) == (1, "finished")
    indices = [int(row["index"]) for row in rows]
    assert indices == sorted(set(indices)) and indices[-1] > 60
    assert sum(int(row["dropped"]) for row in rows) == summary["dropped"] <= indices[-1] + 1 - len(rows)
    server = Server(40)
    server.finish.set()
    said = edgeprune(*run, "1s", "--camera", server.uri)
    wanted = (
        "given up after 1 s and ",
        "to reconnect, the last of which ended so: cannot open rtsp://",
        "are in rows.partial.csv",
    )
    assert said.code == 3 and all(each in said.err.splitlines()[-1] for each in wanted), said
    assert json.loads(said.out)["camera"]["reconnects"] == 0


@pytest.mark.parametrize("uri", ["rtsp://127.0.0.1:1/live", "http://127.0.0.1:1/live", "/dev/video98"])
def test_a_camera_that_is_not_there_at_the_start(edgeprune: Type, tiny: Path, uri: str) -> None:
    run = ("run", "--bundle", tiny, "--record", "rows.csv", "--meter", "none", "--camera", uri)
    assert_one_line(edgeprune(*run), "(at the start it is not tried again, unless you type --give-up 5m)")
    said = edgeprune(*run, "--give-up", "0.3s")
    assert said.code == 3 and "given up after 0.3 s and " in said.err.splitlines()[-1], said
    assert said.err.count("; trying again for up to 0.3 s") == 1 and not list(Path.cwd().iterdir())


@pytest.mark.parametrize(
    ("uri", "refused"),
    [
        ("rstp://127.0.0.1:1/live", "unknown camera scheme 'rstp'"),
        ("/dev/video98?siez=2x2", "did you mean 'size'?"),
        ("http://127.0.0.1:port/live", "check its port"),
        ("csi://0?widht=3", "did you mean 'width'?"),
        ("nowhere.mp4", "no camera, file or folder"),
    ],
)
def test_what_is_wrong_with_a_cameras_name_is_not_waited_for(
    edgeprune: Type, tiny: Path, uri: str, refused: str
) -> None:
    assert_one_line(edgeprune("run", "--bundle", tiny, "--camera", uri, "--give-up", "1h"), refused)


def test_sigterm_while_a_camera_is_away(start: Start, tmp_path: Path) -> None:
    server = Server(40)
    process = start("--camera", server.uri, "--json", rows=1)
    server.finish.set()
    assert process.stderr is not None
    said = iter(process.stderr.readline, "")
    assert any("reconnecting for up to 5 min" in line for line in said)
    time.sleep(0.7)  # in the second pause, or between two attempts
    drain(process)
    assert process.stdout is not None
    summary = json.loads(process.stdout.read())
    assert (summary["ended"], summary["failure"]) == ("interrupted", None)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.mp4", "rows.csv"]


@pytest.mark.parametrize("uri", [
    "rtsp:/me:secret@host/a", "rtp://me:secret@host/a", "rtsp://me:secret@127.0.0.1:1/a", "me:secret@host", "rtsp:me:secret@h",
    "rtsp//me:secret@h", "rtsp:\\\\me:secret@h", "me%3Asecret@h", "secret@host/live", "host/live?pin=secret",
    "synthetic://me:secret@street", "synthetic://me:secret", "synthetic://secret℀@street", "csi://me:secret@0",
    "http://me:secret@127.0.0.1:1/a", "https://me:secret@[/a", "rtsps://me:secret@127.0.0.1:1/a", "0?pin=secret@1",
    "me:secret@rtsp://host", "me:secret" + "x" * 300 + "@host",
])  # fmt: skip
def test_refusals_hide_the_password(edgeprune: Type, tiny: Path, uri: str) -> None:
    for words in (["--camera", uri], ["--camera", uri, uri], ["--frames", uri]):
        said = edgeprune("run", "--bundle", tiny, *words)
        assert said.code == 2 and "secret" not in said.out + said.err, said


def test_uris_that_cannot_be(edgeprune: Type, tiny: Path) -> None:
    cases: list[Any] = ["x" * 5000, "9" * 5000, "synthetic://[", "csi://[", "synthetic://street?seed=" + "9" * 5000]
    cases += ["synthetic://street?height=1600000&width=1600000", "synthetic://street?ahead=999999999"]
    for uri in cases:
        said = edgeprune("run", "--bundle", tiny, "--camera", uri, "--frames", 1)
        assert_one_line(said)
