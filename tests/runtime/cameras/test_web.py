"""Cameras over HTTP against real servers on loopback: JPEGs as parts, MPEG-TS, and what goes wrong with them."""

import base64
import contextlib
import http.server
import io
import random
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import CameraAway, CameraLost, CameraStalled, Wanted, open_source
from edgeprune.runtime.cameras.capture import NewestFrame
from edgeprune.runtime.cameras.multipart import BadPart, parts_of
from edgeprune.runtime.cameras.reconnect import Reconnecting
from edgeprune.runtime.cameras.source import Frame, FrameSource
from tests.fuzz.mutate import mutate_bytes
from tests.runtime.cameras.conftest import HEIGHT, WIDTH, certificate, moving_stripes, read_until_error

pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

BOUNDARY = "frame"


def jpeg(index: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(moving_stripes(index)).save(data, "JPEG", quality=90)
    return data.getvalue()


def part(data: bytes, boundary: str = BOUNDARY, length: bool = True) -> bytes:
    headers = f"--{boundary}\r\nContent-Type: image/jpeg\r\n" + (f"Content-Length: {len(data)}\r\n" if length else "")
    return headers.encode() + b"\r\n" + data + b"\r\n"


MULTIPART = f"multipart/x-mixed-replace; boundary={BOUNDARY}"
Body = Callable[["Handler"], None]


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers each path with what the server has for it."""

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))  # type: ignore[attr-defined]
        self.server.answers[self.path.partition("?")[0]](self)  # type: ignore[attr-defined]

    def begin(self, kind: str = MULTIPART, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


class Server(http.server.ThreadingHTTPServer):
    """On loopback; `finish` lets go of whoever waits for it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, Body] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.finish = threading.Event()
        self.at = f"127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None: ...  # clients hang up as they like


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.finish.set()
        server.shutdown()


def jpegs(*datas: bytes, end: bytes = b"", **options: Any) -> Body:
    """A body of these."""

    def answer(handler: Handler) -> None:
        handler.begin(options.pop("kind", MULTIPART))
        for data in datas:
            handler.wfile.write(part(data, **options))
        handler.wfile.write(end)

    return answer


END = f"--{BOUNDARY}--\r\n".encode()


def frames_of(source: FrameSource) -> list[Frame]:
    """Every frame until the body ends, which a camera's has no reason to: then it is lost."""
    frames: list[Frame] = []
    with pytest.raises(CameraLost, match="it ended the stream"):
        for frame in source:
            frames.append(frame)
    return frames


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (MULTIPART, BOUNDARY),
        ('multipart/x-mixed-replace;boundary="--frame"', BOUNDARY),
        ("multipart/x-mixed-replace; boundary=--frame", BOUNDARY),
        ("multipart/x-mixed-replace", "other--one"),
    ],
)
def test_every_frame_of_a_body_that_ends(server: Server, kind: str, boundary: str, length: bool) -> None:
    datas = [jpeg(index) for index in range(6)]
    end = f"--{boundary}--\r\n".encode()
    server.answers["/video"] = jpegs(*datas, end=end, kind=kind, boundary=boundary, length=length)
    source = open_source(f"HTTP://{server.at}/video")
    assert (source.live, source.fps) == (True, None)
    frames = frames_of(source)
    assert len(frames) == 6 and source.damaged == 0
    for index, frame in enumerate(frames):
        assert np.abs(frame.image_HW3.astype(int) - moving_stripes(index)).mean() < 12


@pytest.mark.parametrize("length", [True, False])
def test_a_body_in_chunks(server: Server, length: bool) -> None:
    """As servers of HTTP/1.1 send it: their borders are anywhere."""

    def answer(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.begin(Transfer_Encoding="chunked")
        body = b"".join(part(jpeg(index), length=length) for index in range(20)) + END
        for start in range(0, len(body), 1000):
            block = body[start : start + 1000]
            handler.wfile.write(f"{len(block):x}\r\n".encode() + block + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    server.answers["/"] = answer
    source = open_source(f"http://{server.at}/")
    assert (len(frames_of(source)), source.damaged) == (20, 0)


def test_a_camera_that_changes_its_size(server: Server) -> None:
    data = io.BytesIO()
    Image.fromarray(moving_stripes(0)[: HEIGHT // 2]).save(data, "JPEG", quality=90)
    server.answers["/"] = jpegs(jpeg(0), data.getvalue(), jpeg(1), end=END)
    source = open_source(f"http://{server.at}/")
    assert [frame.image_HW3.shape[0] for frame in frames_of(source)] == [
        HEIGHT,
        HEIGHT // 2,
        HEIGHT,
    ] and not source.damaged


def test_damaged_jpegs_are_left_out_and_counted(server: Server) -> None:
    half = jpeg(1)[:-800]
    scrambled = bytearray(jpeg(2))
    scrambled[len(scrambled) // 2 : len(scrambled) // 2 + 60] = b"\xff\xd5" * 30
    server.answers["/"] = jpegs(jpeg(0), half, bytes(scrambled), b"no JPEG", b"", jpeg(3), end=END)
    source = open_source(f"http://{server.at}")
    frames = frames_of(source)
    assert (len(frames), source.damaged) == (2, 4)
    assert np.abs(frames[1].image_HW3.astype(int) - moving_stripes(3)).mean() < 12


def test_jpegs_of_a_camera_that_never_writes_them_whole(server: Server) -> None:
    server.answers["/"] = jpegs(*(jpeg(index)[:-800] for index in range(6)), end=END)
    source = open_source(f"http://{server.at}/")
    assert (len(frames_of(source)), source.damaged) == (4, 2)


def test_a_wrong_length_costs_no_more_than_its_frame(server: Server) -> None:
    short = part(jpeg(1)).replace(f"Length: {len(jpeg(1))}".encode(), b"Length: 100")
    server.answers["/"] = jpegs(jpeg(0), end=short + part(jpeg(2)) + END)
    source = open_source(f"http://{server.at}/")
    assert (len(frames_of(source)), source.damaged) == (2, 1)


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (part(jpeg(2))[:500], "it ended the stream"),
        (b"", "it ended the stream"),
        (
            f"--{BOUNDARY}\r\nContent-Length: 99999999999\r\n\r\n".encode(),
            "a part of 99,999,999,999 bytes, at most 67,108,864",
        ),
        (f"--{BOUNDARY}\r\nContent-Length: -1\r\n\r\n".encode(), "the length of a part is no number"),
        (f"--{BOUNDARY}\r\n".encode() + b"a: b\r\n" * 70, "more than 64 headers"),
    ],
)
def test_what_breaks_off_or_is_no_multipart_is_lost(server: Server, end: bytes, reason: str) -> None:
    server.answers["/"] = jpegs(jpeg(0), jpeg(1), end=end)
    count, error = read_until_error(open_source(f"http://{server.at}/"))
    assert count == 2 and isinstance(error, CameraLost) and reason in str(error)


def test_a_part_without_a_length_and_without_an_end(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.multipart.MOST_BYTES", 50_000)
    server.answers["/"] = jpegs(jpeg(0), end=f"--{BOUNDARY}\r\n\r\n".encode() + bytes(100_000), length=False)
    count, error = read_until_error(open_source(f"http://{server.at}/"))
    assert count == 1 and isinstance(error, CameraLost) and "a part of more than 50,000 bytes" in str(error)
    server.answers["/"] = lambda handler: (handler.begin(), handler.wfile.write(b"x" * 20_000))[0]  # type: ignore[func-returns-value]
    count, error = read_until_error(open_source(f"http://{server.at}/"))
    assert count == 0 and isinstance(error, CameraLost) and "no boundary between parts comes" in str(error)


@pytest.mark.parametrize("drips", [False, True])
def test_a_camera_that_falls_silent(server: Server, monkeypatch: pytest.MonkeyPatch, drips: bool) -> None:
    """Or that sends a byte now and then."""
    monkeypatch.setattr("edgeprune.runtime.cameras.web.TIMEOUT_S", 60 if drips else 0.3)
    monkeypatch.setattr("edgeprune.runtime.cameras.multipart.PART_S", 0.3)

    def answer(handler: Handler) -> None:
        jpegs(jpeg(0), end=part(jpeg(1))[:300])(handler)
        while not server.finish.wait(0.05):
            if drips:
                handler.wfile.write(b"x")

    server.answers["/"] = answer
    count, error = read_until_error(open_source(f"http://{server.at}/"))
    assert count == 1 and isinstance(error, CameraStalled) and "delivers no more frames" in str(error)


def test_five_frames_a_second_are_no_stall(server: Server) -> None:
    def answer(handler: Handler) -> None:
        handler.begin()
        for index in range(4):
            handler.wfile.write(part(jpeg(index)))
            time.sleep(0.2)
        handler.wfile.write(END)

    server.answers["/"] = answer
    with NewestFrame(open_source(f"http://{server.at}/")) as capture:
        frames = []
        with pytest.raises(CameraLost):
            while got := capture.get(capture.patience_s):
                frames.append(got)
    assert len(frames) == 4 and capture.dropped == 0
    steps_s = np.diff([frame.capture_ns for frame, _ in frames]) / 1e9
    assert steps_s.min() > 0.1  # each as it comes, none held back until the next


@pytest.mark.parametrize("end", [part(jpeg(1))[:900], END, b""])
def test_a_camera_that_ends_its_body_is_reconnected(
    server: Server, monkeypatch: pytest.MonkeyPatch, end: bytes
) -> None:
    """In the middle of a frame, as announced, or by hanging up between two."""
    monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.01)
    bodies = iter([jpegs(jpeg(0), end=end), jpegs(jpeg(2), end=END)])
    server.answers["/"] = lambda handler: next(bodies)(handler)
    uri = f"http://{server.at}/"
    capture = Reconnecting(open_source(uri), lambda: open_source(uri), give_up_s=60)
    got = [capture.get(10.0) for _ in range(2)]
    assert [each and each[0].index for each in got] == [0, 1] and capture.reconnects == 1


def test_bodies_that_somebody_damaged() -> None:
    """Whatever comes, it is parts and one of three errors."""
    whole = b"".join(part(jpeg(index), length=index % 2 == 0) for index in range(3)) + END
    count = 0
    for seed in range(400):
        body = io.BytesIO(mutate_bytes(random.Random(seed), whole))
        with contextlib.suppress(BadPart, EOFError):
            for data in parts_of(body):
                count += len(data) <= len(whole) + 1000
    assert count > 400


# --- opening ---


def test_a_password_is_sent_to_its_host_alone_and_shown_nowhere(server: Server) -> None:
    def answer(handler: Handler) -> None:
        if handler.headers.get("Authorization") != "Basic " + base64.b64encode(b"me:se/cr@t").decode():
            handler.begin(status=401, WWW_Authenticate='Basic realm="camera"')
        else:
            jpegs(jpeg(0), end=END)(handler)

    server.answers["/video"] = answer
    server.answers["/moved"] = lambda handler: handler.begin(status=302, Location="/video")
    for path in ("video", "moved"):
        source = open_source(f"http://me:se%2Fcr%40t@{server.at}/{path}?token=abc")
        assert source.uri == f"http://***@{server.at}/{path}?token=***" and len(frames_of(source)) == 1
    for user in ("", "me:wrong@"):
        with pytest.raises(InputError, match="HTTP 401 .*; wrong or no user and password; type them as in") as refused:
            open_source(f"http://{user}{server.at}/video")
        assert "wrong@" not in str(refused.value)
    with Server() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        other.answers["/"] = answer
        server.answers["/away"] = lambda handler: handler.begin(status=302, Location=f"http://{other.at}/")
        with pytest.raises(InputError, match="HTTP 401"):
            open_source(f"http://me:se%2Fcr%40t@{server.at}/away")
        assert other.asked == [("/", None)]
        other.shutdown()


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (lambda handler: handler.begin(status=404), "cannot open http://.*: HTTP 404 Not Found; check the path"),
        (lambda handler: handler.begin(status=302, Location="/a"), "HTTP 302 .*infinite loop"),
        (lambda handler: handler.begin(status=302, Location="file:///etc/passwd"), "HTTP 302 .*is not allowed"),
        (lambda handler: handler.begin("image/jpeg", Content_Length="5"), "is no stream but image/jpeg, 5 bytes; name"),
        (lambda handler: handler.begin("text/html"), "is no stream but text/html; name the path of the camera's stream"),
        (lambda handler: handler.begin("video/mp4", Content_Length="99"), "is no stream but video/mp4, 99 bytes; .*download"),
        (lambda handler: handler.begin("video/mp2t"), "no video in http://"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), "does not answer in HTTP; check the address"),
    ],
)  # fmt: skip
def test_what_is_no_stream_is_one_line(server: Server, answer: Body, line: str) -> None:
    server.answers["/a"] = answer
    with pytest.raises(InputError, match=line):
        open_source(f"http://{server.at}/a")
    assert len(server.asked) <= 12


@pytest.mark.parametrize(
    "uri", ["http://", "http:///path", "http://[", "http://host:port/", "http://a b/", "http://127.0.0.1:1/"]
)
def test_addresses_that_cannot_be(uri: str) -> None:
    with pytest.raises(InputError, match=r"is no URI|no host in|does not answer|cannot open"):
        open_source(uri)


@pytest.mark.parametrize(
    ("status", "may_come"), [(401, False), (403, False), (302, False), (404, True), (500, True), (503, True)]
)
def test_what_one_that_is_still_starting_may_say(server: Server, status: int, may_come: bool) -> None:
    """It is waited for where that was said; a wrong password is not."""
    server.answers["/a"] = lambda handler: handler.begin(status=status, Location="file:///a")
    with pytest.raises(InputError, match=f"HTTP {status}") as refused:
        open_source(f"http://{server.at}/a")
    assert isinstance(refused.value, CameraAway) is may_come


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch, server: Server) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.web.TIMEOUT_S", 0.2)
    server.answers["/"] = lambda handler: (server.finish.wait(), None)[1]
    with pytest.raises(InputError, match=r"no answer from http://127.0.0.1:\d+/ within 0.2 s"):
        open_source(f"http://{server.at}/")


def test_a_camera_is_live_anyway(server: Server) -> None:
    with pytest.raises(InputError, match="is live anyway; leave --realtime out"):
        open_source(f"http://{server.at}/", Wanted(realtime=True))


def test_another_stream_without_an_end(server: Server, make_video: Callable[..., Path]) -> None:
    data = make_video("a.ts", codec="mpeg2video").read_bytes()
    server.answers["/a.ts"] = lambda handler: (handler.begin("video/mp2t"), handler.wfile.write(data))[0]  # type: ignore[func-returns-value]
    source = open_source(f"http://{server.at}/a.ts")
    assert source.live and source.fps == 25 and next(source).image_HW3.shape == (HEIGHT, WIDTH, 3)
    count, error = read_until_error(source)
    source.close()
    assert count == 29 and isinstance(error, CameraLost)


def test_https(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.answers["/"] = jpegs(jpeg(0), end=END)
    with pytest.raises(InputError, match="self.signed certificate; set SSL_CERT_FILE to the camera's certificate"):
        open_source(f"https://{server.at}/")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "camera.pem"))
    assert len(frames_of(open_source(f"https://{server.at}/"))) == 1
    server.answers["/down"] = lambda handler: handler.begin(status=302, Location=f"http://{server.at}/")
    with pytest.raises(InputError, match="leads to another scheme"):
        open_source(f"https://{server.at}/down")
