"""A network camera on loopback: MPEG-4 over RTP, interleaved in RTSP's connection (RFC 2326, RFC 3550, RFC 6416)."""

import random
import socket
import struct
import time
from collections import deque
from contextlib import suppress
from fractions import Fraction

import numpy as np

from edgeprune.lab.faults.cameras import FPS, HEIGHT, WIDTH, Server, damaged
from edgeprune.runtime.cameras.pyav import load_av

FRAMES = 30
MOST_RTP = 1200  # bytes in a packet
CLOCK_HZ = 90_000
LAST = 0x80  # the bit of the last packet of a frame


def encoded() -> tuple[bytes, list[bytes]]:
    """The configuration, and a packet for each frame; the first is a key frame."""
    av = load_av()
    codec = av.CodecContext.create("mpeg4", "w")
    codec.width, codec.height, codec.pix_fmt, codec.bit_rate = WIDTH, HEIGHT, "yuv420p", 300_000
    codec.framerate, codec.time_base = Fraction(FPS), Fraction(1, int(FPS))
    codec.options = {"flags": "+global_header"}
    noise_HW3 = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
    packets = []
    for index in range(FRAMES):
        packets += codec.encode(av.VideoFrame.from_ndarray(np.roll(noise_HW3, index, axis=1), format="rgb24"))
    return bytes(codec.extradata), [bytes(packet) for packet in [*packets, *codec.encode(None)]]


class RtspCamera(Server):
    """Plays the same frames again and again."""

    def __init__(self) -> None:
        self._configuration, self._packets = encoded()
        self._damage: deque[int] = deque()  # seeds, of the next frames
        super().__init__("rtsp://127.0.0.1:PORT/live")

    def serve(self, connection: socket.socket) -> None:
        while request := connection.recv(4096).decode():  # whole: a client waits for each answer
            self.wait_while_silent()
            method = request.split()[0]
            sequence = next(line for line in request.splitlines() if line.lower().startswith("cseq"))
            connection.sendall(self._response(method, sequence))
            if method == "PLAY":
                self._play(connection)

    def _response(self, method: str, sequence: str) -> bytes:
        headers, body = [sequence, "Session: 1"], ""
        if method == "OPTIONS":
            headers = [sequence, "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN"]
        elif method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=noise\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\n"
                f"a=fmtp:96 profile-level-id=1; config={self._configuration.hex().upper()}\r\na=control:track0\r\n"
            )
            headers = [sequence, "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            headers.append("Transport: RTP/AVP/TCP;unicast;interleaved=0-1")
        return "\r\n".join(["RTSP/1.0 200 OK", *headers, "", body]).encode()

    def _play(self, connection: socket.socket) -> None:
        sequence = index = 0
        while True:
            self.wait_while_silent()
            data = self._packets[index % len(self._packets)]
            chance = None
            with suppress(IndexError):
                chance = random.Random(self._damage.popleft())
            if chance:
                data = damaged(data, chance)
            for start in range(0, max(1, len(data)), MOST_RTP):
                last = LAST if start + MOST_RTP >= len(data) else 0
                ticks = round(index * CLOCK_HZ / FPS)
                rtp = (
                    struct.pack(">BBHII", 0x80, 96 | last, sequence % 65536, ticks, 1) + data[start : start + MOST_RTP]
                )
                if chance and chance.random() < 0.3:
                    rtp = damaged(rtp, chance)  # the header too
                connection.sendall(struct.pack(">cBH", b"$", 0, len(rtp)) + rtp)
                sequence += 1
            index += 1
            time.sleep(1 / FPS)

    def damage(self, chance: random.Random) -> None:
        self._damage += [chance.randrange(1 << 30) for _ in range(chance.randint(1, 5))]
