"""A page of several cameras."""

import io
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.runtime.page.chromium import browser, find_chromium
from tests.runtime.page.conftest import Serve, publish
from tests.runtime.page.test_metrics import samples_of

CAMERAS = ("front", "rear", "yard")


def test_each_camera_has_its_picture_and_figures(serve: Serve) -> None:
    served = serve(cameras=CAMERAS)
    publish(served.cameras["front"], 0, height=6, width=9)
    publish(served.cameras["rear"], 0, height=8, width=8, bucket="half")
    publish(served.cameras["rear"], 1, height=8, width=8, bucket="half")
    sizes = {}
    for name in ("front", "rear"):
        answer = served.ask(f"/snapshot.jpg?camera={name}")
        assert f'filename="{name}-' in answer.headers["content-disposition"]
        sizes[name] = Image.open(io.BytesIO(answer.body)).size
    assert sizes == {"front": (9, 6), "rear": (8, 8)}
    assert served.ask("/snapshot.jpg").body == served.ask("/snapshot.jpg?camera=front").body
    assert served.ask("/snapshot.jpg?camera=yard").status == 503
    stats = served.ask("/stats?camera=rear").json
    assert (stats["camera"]["name"], stats["frames"]) == ("rear", 2)
    assert [(each["name"], each["frames"], each["silence"]) for each in stats["cameras"]] == [
        ("front", 1, None), ("rear", 2, None), ("yard", 0, "no frame yet")
    ]  # fmt: skip
    assert served.ask("/stats").json["camera"]["name"] == "front"
    with served.watch("/stream.mjpg?camera=rear") as viewer:
        stream = viewer.makefile("rb")
        while not stream.readline().startswith(b"Content-Type: image/jpeg"):
            pass
        stream.readline()
        assert stream.read(2) == b"\xff\xd8"


def test_a_camera_that_there_is_not(serve: Serve) -> None:
    served = serve(cameras=CAMERAS)
    for path in ("/stats", "/snapshot.jpg", "/stream.mjpg"):
        answer = served.ask(f"{path}?camera=frnt")
        assert (answer.status, answer.text) == (
            404,
            "no such camera; did you mean 'front'?; there are front, rear, yard\n",
        )
    one = serve()
    assert one.ask("/stats?camera=front").text == "this run has one camera; leave camera= out\n"
    assert one.ask("/stats").json["cameras"] == [] and "name" not in one.ask("/stats").json["camera"]


def test_health_and_metrics_are_of_each(serve: Serve) -> None:
    served = serve(cameras=CAMERAS)
    answer = served.ask("/healthz")
    assert (answer.status, answer.text) == (503, "front: no frame yet; rear: no frame yet; yard: no frame yet\n")
    publish(served.cameras["rear"], 0, bucket="half", dropped=2, watts=4.5)
    served.cameras["front"].ended = True
    answer = served.ask("/healthz")
    assert (answer.status, answer.text) == (200, "ok; front: it has ended; yard: no frame yet\n")
    samples = samples_of(served.ask("/metrics"))
    assert (
        samples["edgeprune_frames_total", "half", "rear"] == 1
        and samples["edgeprune_frames_total", "half", "yard"] == 0
    )
    assert samples["edgeprune_dropped_frames_total", "rear"] == 2 and samples["edgeprune_power_watts",] == 4.5
    assert [samples["edgeprune_up", name] for name in CAMERAS] == [0, 1, 0]
    assert samples["edgeprune_latency_seconds_count", "rear"] == 1
    assert ("edgeprune_frame_age_seconds", "yard") not in samples


def test_lines_that_a_run_warned_of_are_of_the_run(serve: Serve) -> None:
    """Every camera's page shows them all; they were counted as often as there are cameras, and those of one as another's."""
    served = serve(cameras=CAMERAS)
    for publisher in served.cameras.values():
        for line in ("camera rear is lost: it is gone", "the machine lowered its clock"):
            publisher.warn(line)
    samples = samples_of(served.ask("/metrics"))
    found = {key: value for key, value in samples.items() if "faults" in key[0] and not key[0].endswith("_created")}
    assert found == {("edgeprune_faults_total",): 2}
    assert served.ask("/stats?camera=front").json["faults"]["count"] == 2


def test_the_energy_of_a_frame_is_the_machines_over_the_frames_of_all_cameras(serve: Serve) -> None:
    """It was shown as that over the frames of the one that is looked at: twice as much with two."""
    both, alone = serve(cameras=("front", "rear")), serve()
    now_ns = time.monotonic_ns()
    for index in range(11):
        end_ns = now_ns - (10 - index) * 10**8
        for publisher in (both.cameras["front"], alone.publisher):
            publish(publisher, index, end_ns=end_ns, watts=6.0)
        publish(both.cameras["rear"], index, end_ns=end_ns, watts=6.0)
    window = alone.ask("/stats").json["window"]
    assert (window["fps"], window["watts"], window["mj_per_frame"]) == (10.0, 6.0, 600.0)
    for name in ("front", "rear"):
        window = both.ask(f"/stats?camera={name}").json["window"]
        assert (window["fps"], window["watts"]) == (10.0, 6.0)
        assert window["mj_per_frame"] == pytest.approx(
            6000 / 21, abs=0.001
        )  # 22 frames: 21 after the first in a second


def test_a_browser_chooses(serve: Serve, tmp_path: Path) -> None:
    find_chromium()
    served = serve(cameras=CAMERAS)
    with browser(tmp_path / "profile") as tab:
        publish(served.cameras["front"], 0, height=6, width=9)
        publish(served.cameras["rear"], 0, height=8, width=16)
        width = "document.getElementById('picture')?.naturalWidth"
        tab.open(f"http://127.0.0.1:{served.port}/")
        tab.until(f"{width} === 9 && document.getElementById('cameras')?.options.length === 3")
        tab.evaluate("document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'c', bubbles: true}))")
        tab.until(f"{width} === 16 && location.hash === '#rear'")
        tab.until("document.getElementById('cameras').value === 'rear'")
        assert tab.evaluate("document.getElementById('snapshot').href").endswith("snapshot.jpg?camera=rear")
        tab.open(f"http://127.0.0.1:{served.port}/#front")
        tab.until(f"{width} === 9")
        assert not tab.said, tab.said


def test_a_page_of_one_has_nothing_to_choose(serve: Serve, tmp_path: Path) -> None:
    find_chromium()
    served = serve()
    served.publish(0)
    with browser(tmp_path / "profile") as tab:
        tab.open(f"http://127.0.0.1:{served.port}/")
        tab.until("document.getElementById('state')?.textContent === 'live'")
        assert tab.evaluate("document.getElementById('cameras').hidden") is True


@pytest.fixture(autouse=True)
def _needs_the_page() -> None:
    pytest.importorskip("uvicorn", reason="needs the extra `view`: pip install 'edgeprune[view]'")
