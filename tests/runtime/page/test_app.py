"""What the page answers, asked over a real connection."""

import io
import re
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from edgeprune.runtime.page.publisher import SILENT_S
from tests.runtime.page.conftest import ABOUT, Asked, Serve, publish_mapped, until

DIVIDER = b"\r\n--edgeprune-frame\r\nContent-Type: image/jpeg\r\n\r\n"


def pictures_of(connection: socket.socket, count: int) -> list[tuple[int, bytes]]:
    """The next of a stream: their numbers and files. None of them has begun to come, or this is the first call."""
    held = b""
    while held.count(b"\xff\xd9" + DIVIDER) < count:  # what ends a JPEG
        data = connection.recv(1 << 16)
        assert data, "the stream has ended"
        held += data
    files = [part for part in held.split(DIVIDER) if part.startswith(b"\xff\xd8")]
    return [(int(Image.open(io.BytesIO(each)).info["comment"].split()[1]), each) for each in files]


def test_the_stream_plays(serve: Serve) -> None:
    served = serve()
    with served.watch() as connection:
        until(lambda: served.page.viewers == 1)
        for index in range(3):
            served.publish(index, height=40, width=60)
            [(number, jpeg)] = pictures_of(connection, 1)
            assert number == index + 1
            shown = np.asarray(Image.open(io.BytesIO(jpeg))).astype(int)
            assert shown.shape == (40, 60, 3) and abs(shown.mean() - index) < 2
    until(lambda: served.page.viewers == 0)


def test_tokens_in_the_stream_and_in_a_snapshot(serve: Serve) -> None:
    def level(jpeg: bytes) -> int:
        return int(np.asarray(Image.open(io.BytesIO(jpeg))).mean().round())

    served = serve()
    asked = Asked()
    served.publisher.about = replace(ABOUT, map_tokens=asked)
    publish_mapped(served.publisher, 0)
    assert level(served.ask("/snapshot.jpg").body) == 50 and not asked
    with served.watch("/stream.mjpg?tokens=1") as mapped, served.watch() as plain:
        assert [level(pictures_of(each, 1)[0][1]) for each in (mapped, plain)] == [200, 50]
    until(lambda: served.page.viewers == 0)
    publish_mapped(served.publisher, 1, known=False)
    waiting = threading.Timer(0.2, publish_mapped, (served.publisher, 2))
    waiting.start()
    assert (
        level(served.ask("/snapshot.jpg?tokens=1").body) == 200
    )  # of the frame that comes, which the loop was asked for
    waiting.join()
    served.publisher.about = ABOUT
    publish_mapped(served.publisher, 3, known=False)
    assert level(served.ask("/snapshot.jpg?tokens=1").body) == 50  # at once: there is nothing to wait for


def test_the_head_of_the_stream(serve: Serve) -> None:
    answer = serve().ask("/stream.mjpg", "HEAD")
    assert answer.status == 200 and answer.body == b""
    assert answer.headers["content-type"] == "multipart/x-mixed-replace; boundary=edgeprune-frame"


def test_others_play_it_too(serve: Serve) -> None:
    """FFmpeg, and so OpenCV, VLC and what else is made of it."""
    av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")
    served = serve()
    served.publish(5, height=40, width=64)
    with av.open(f"http://127.0.0.1:{served.port}/stream.mjpg", format="mpjpeg") as opened:
        until(lambda: served.page.viewers == 1)
        served.publish(3, height=40, width=64)
        frame = next(opened.decode(video=0))
        assert (frame.height, frame.width) == (40, 64)


def test_one_drawing_serves_all_viewers(serve: Serve) -> None:
    served = serve()
    viewers = [served.watch() for _ in range(5)]
    try:
        until(lambda: served.page.viewers == 5)
        served.publish(2)
        seen = [pictures_of(each, 1) for each in viewers]
        assert all(each == seen[0] for each in seen) and served.page.pictures[""].drawn == 1
    finally:
        for each in viewers:
            each.close()


def test_as_many_viewers_as_it_serves(serve: Serve) -> None:
    served = serve()
    viewers = [served.watch() for _ in range(8)]
    try:
        until(lambda: served.page.viewers == 8)
        answer = served.ask("/stream.mjpg")
        assert (answer.status, answer.text) == (503, "8 are watching, which is all that this page serves\n")
        assert served.ask("/stats").json["viewers"] == 8
        viewers.pop().close()
        until(lambda: served.page.viewers == 7)
        viewers.append(served.watch())
        until(lambda: served.page.viewers == 8)
    finally:
        for each in viewers:
            each.close()


def test_the_snapshot_is_the_newest_frame(serve: Serve) -> None:
    served = serve()
    assert (served.ask("/snapshot.jpg").status, served.ask("/snapshot.jpg").text) == (503, "no frame yet\n")
    served.publish(4)
    answer = served.ask("/snapshot.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["content-disposition"] == 'inline; filename="frame-1.jpg"'
    assert Image.open(io.BytesIO(answer.body)).size == (9, 6)


def test_its_health(serve: Serve) -> None:
    served = serve()
    assert (served.ask("/healthz").status, served.ask("/healthz").text) == (503, "no frame yet\n")
    served.publish(0)
    assert (served.ask("/healthz").status, served.ask("/healthz").text) == (200, "ok\n")
    shown = served.publisher.shown
    assert shown
    served.publish(1, end_ns=shown.row.end_ns - round((SILENT_S + 3) * 1e9))
    assert re.fullmatch(r"no frame for \d+ s\n", served.ask("/healthz").text)


def test_the_page_is_one_page_without_outside_resources(serve: Serve) -> None:
    served = serve()
    page = served.ask("/").text
    for path in re.findall(r'(?:href|src)="([^"]+)"', page):
        assert re.fullmatch(r"[a-z]+(\.[a-z]+)?", path), path  # of its own
        if path not in ("stream.mjpg", "snapshot.jpg", "healthz"):
            assert served.ask(f"/{path}").status == 200
    whole = page + served.ask("/page.js").text + served.ask("/page.css").text
    assert not re.findall(r"https?://[^\s\"']+|//[a-z.]+\.[a-z]+/", whole)
    assert "url(" not in whole and not re.search(r"<[^>]+ (on[a-z]+|style)=", page)


@pytest.mark.parametrize("path", ["/x", "/stats/", "//", "/..%2fpyproject.toml", "/page.py", "/static/", "/%00"])
def test_nothing_else_is_there(serve: Serve, path: str) -> None:
    answer = serve().ask(path)
    assert (answer.status, answer.text) == (
        404,
        "no such page; there are /, /stream.mjpg, /snapshot.jpg, /stats, /metrics and /healthz\n",
    )
