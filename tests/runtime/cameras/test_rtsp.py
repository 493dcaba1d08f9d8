"""The network camera against a small RTSP server on loopback: MPEG-4 over RTP, interleaved in the TCP connection."""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras import CameraAway, CameraLost, CameraStalled, open_source
from edgeprune.runtime.cameras.reconnect import Reconnecting
from tests.runtime.cameras.conftest import certificate, read_until_error

av = pytest.importorskip("av", reason="needs PyAV: pip install 'edgeprune[video]'")

HEIGHT, WIDTH, FPS = 64, 96, 25
TICKS = 90000 // FPS
MAX_RTP = 1200
# RFC 3550, 6.4.1 and 6.6: of the source 1, version 2; a compound packet begins with a report
SENDER_REPORT = struct.pack(">BBHIIIIII", 0x80, 200, 6, 1, 0x83AA7E80, 0, 0, 40, 1000)
BYE = struct.pack(">BBHI", 0x81, 203, 1, 1)


def encoded(count: int) -> tuple[bytes, list[bytes]]:
    """MPEG-4 Part 2: its configuration, and one packet for each frame."""
    codec = av.CodecContext.create("mpeg4", "w")
    codec.width, codec.height, codec.pix_fmt, codec.bit_rate = WIDTH, HEIGHT, "yuv420p", 500_000
    codec.framerate, codec.time_base = FPS, Fraction(1, FPS)
    codec.options = {"flags": "+global_header"}
    packets = []
    noise_HW3 = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    for index in range(count):
        packets += codec.encode(av.VideoFrame.from_ndarray(np.roll(noise_HW3, index, axis=1), format="rgb24"))
    packets += codec.encode(None)
    return bytes(codec.extradata), [bytes(packet) for packet in packets]


class Server:
    """Serves `frames` frames to one client, then holds its peace until `finish` is set, and hangs up.

    goodbye: it sends RTCP's BYE before; length_s: its SDP says how long the recording is; lost: so many clients before that
    one are hung up on without a word; reboots: so many more are served likewise; certificate: of one
    that speaks TLS alone.
    """

    def __init__(
        self,
        frames: int,
        goodbye: bool = False,
        length_s: float | None = None,
        lost: int = 0,
        reboots: int = 0,
        certificate: Path | None = None,
    ):
        self.goodbye, self.length_s, self.lost, self.reboots = goodbye, length_s, lost, reboots
        self._announced_s: float | None = None
        self._tls: ssl.SSLContext | None = None
        if certificate:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)
        self.configuration, self.packets = encoded(frames)
        self.finish = threading.Event()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"rtsp{'s' if certificate else ''}://127.0.0.1:{self._listening.getsockname()[1]}/live"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with self._listening:
            for left in range(self.lost, -1, -1):
                self._announced_s = None if left else self.length_s
                self._serve_one(goodbye=self.goodbye and not left)
            for _ in range(self.reboots):
                self._serve_one(goodbye=self.goodbye)

    def _serve_one(self, goodbye: bool) -> None:
        connection, _ = self._listening.accept()
        if self._tls:
            connection = self._tls.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as requests:
            while True:
                lines = list(iter(lambda: requests.readline().decode().strip(), ""))
                if not lines:
                    return
                method = lines[0].split()[0]
                sequence = next(line for line in lines if line.lower().startswith("cseq"))
                connection.sendall(self._answer(method, sequence))
                if method == "PLAY":
                    self._send_frames(connection)
                    self.finish.wait()
                    if goodbye:
                        connection.sendall(self._interleaved(1, SENDER_REPORT + BYE))
                    return

    def _answer(self, method: str, sequence: str) -> bytes:
        headers, body = [sequence], ""
        if method == "OPTIONS":
            headers.append("Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN")
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=stripes\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                + (f"a=range:npt=0-{self._announced_s}\r\n" if self._announced_s else "")
                + "a=rtpmap:96 MP4V-ES/90000\r\n"
                f"a=fmtp:96 profile-level-id=1; config={self.configuration.hex().upper()}\r\na=control:track0\r\n"
            )
            headers += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            headers += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        else:
            headers.append("Session: 1")
        return "\r\n".join(["RTSP/1.0 200 OK", *headers, "", body]).encode()

    def _send_frames(self, connection: socket.socket) -> None:
        sequence = 0
        for index, packet in enumerate(self.packets):
            for start in range(0, len(packet), MAX_RTP):
                last = start + MAX_RTP >= len(packet)
                header = struct.pack(">BBHII", 0x80, 96 | last << 7, sequence, index * TICKS, 1)
                rtp = header + packet[start : start + MAX_RTP]
                connection.sendall(self._interleaved(0, rtp))
                sequence += 1

    @staticmethod
    def _interleaved(channel: int, data: bytes) -> bytes:
        return struct.pack(">cBH", b"$", channel, len(data)) + data


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """serve(frames, goodbye=, length_s=): a Server, whose client is hung up on after the test."""
    servers: list[Server] = []

    def make(frames: int, **options: Any) -> Server:
        servers.append(Server(frames, **options))
        return servers[-1]

    yield make
    for server in servers:
        server.finish.set()


def test_camera_that_falls_silent(serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.rtsp.READ_TIMEOUT_S", 0.5)
    server = serve(40)
    source = open_source(server.uri)
    assert source.live
    frames = []
    with pytest.raises(CameraStalled, match=r"delivers no more frames"):
        for frame in source:
            frames.append(frame)
    source.close()
    assert len(frames) >= 30 and frames[0].image_HW3.shape == (HEIGHT, WIDTH, 3)


def read_to_the_end(server: Server) -> tuple[int, BaseException | None]:
    source = open_source(server.uri)
    next(source)
    server.finish.set()
    return read_until_error(source)


@pytest.mark.parametrize("goodbye", [False, True])
def test_camera_that_ends_its_stream_is_lost(serve: Callable[..., Server], goodbye: bool) -> None:
    """Also where it says so: a camera that is rebooted sends RTCP's BYE."""
    count, error = read_to_the_end(serve(40, goodbye=goodbye))
    assert count >= 30
    assert isinstance(error, CameraLost) and error.exit_code == 3
    assert "is lost (it ended the stream)" in str(error)


def test_camera_that_is_rebooted_is_connected_anew(
    serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.reconnect.FIRST_PAUSE_S", 0.01)
    server = serve(40, goodbye=True, reboots=1)
    with Reconnecting(open_source(server.uri), lambda: open_source(server.uri), give_up_s=60) as capture:
        got = capture.get(10.0)
        server.finish.set()
        while got and not capture.reconnects:
            got = capture.get(10.0)
    assert got is not None and got[0].index > 0 and capture.reconnects == 1


@pytest.mark.parametrize(("length_s", "lost"), [(1.6, False), (60.0, True)])
def test_recording_of_an_announced_length(serve: Callable[..., Server], length_s: float, lost: bool) -> None:
    count, error = read_to_the_end(serve(40, length_s=length_s))
    assert count >= 30 and isinstance(error, CameraLost) == lost


def test_refused_connection_hides_the_password() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    shown = rf"cannot open rtsp://\*\*\*@127.0.0.1:{port}/live\?pwd=\*\*\*: Connection refused"
    with pytest.raises(InputError, match=shown):
        open_source(f"rtsp://me:secret@127.0.0.1:{port}/live?pwd=secret")


@pytest.mark.parametrize(("status", "may_come"), [(401, False), (403, False), (404, True), (503, True)])
def test_what_one_that_is_still_starting_may_say(status: int, may_come: bool) -> None:
    """It is waited for where that was said; a wrong password is not."""

    def answer() -> None:
        connection, _ = listening.accept()
        with connection, connection.makefile("rb") as requests:
            while lines := list(iter(lambda: requests.readline().decode().strip(), "")):
                sequence = next(line for line in lines if line.lower().startswith("cseq"))
                said = "200 OK" if lines[0].startswith("OPTIONS") else f"{status} No"
                connection.sendall(f"RTSP/1.0 {said}\r\n{sequence}\r\n\r\n".encode())

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(InputError, match="cannot open rtsp://") as refused:
            open_source(f"rtsp://127.0.0.1:{listening.getsockname()[1]}/live")
    assert isinstance(refused.value, CameraAway) is may_come


def test_a_scheme_in_capitals(serve: Callable[..., Server]) -> None:
    server = serve(40, goodbye=True)
    server.finish.set()
    source = open_source(server.uri.replace("rtsp", "RTSP"))
    assert source.uri == server.uri and source.live
    assert read_until_error(source)[0] >= 30


def test_a_camera_that_speaks_tls(serve: Callable[..., Server], tmp_path: Path) -> None:
    """Its certificate is its own, as that of nearly every camera, and is not looked at."""
    server = serve(40, goodbye=True, certificate=certificate(tmp_path))
    server.finish.set()
    source = open_source(server.uri)
    assert source.live and source.uri.startswith("rtsps://")
    count, error = read_until_error(source)
    source.close()
    assert count >= 30 and isinstance(error, CameraLost)


def test_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune.runtime.cameras.rtsp.OPEN_TIMEOUT_S", 0.3)
    server = socket.create_server(("127.0.0.1", 0))  # its queue accepts, and nobody reads
    with server, pytest.raises(InputError, match=r"no answer from rtsp://127.0.0.1:\d+/live within 0.3 s"):
        open_source(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live")
