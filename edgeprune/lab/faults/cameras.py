"""Live cameras that a campaign starts and lets fail: one behind HTTP on loopback, and a V4L2 device that is a file."""

import io
import itertools
import os
import random
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

FPS = 15.0
HEIGHT, WIDTH = 64, 96
BEGIN = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"
BUFFERS = 4 << 16  # bytes of the device's file, see camera.c


def jpegs(count: int) -> list[bytes]:
    """Coarse noise that moves."""
    noise = np.random.default_rng(0).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
    made = []
    for index in range(count):
        data = io.BytesIO()
        Image.fromarray(np.roll(np.kron(noise, np.ones((8, 8, 1), np.uint8)), 8 * index, axis=1)).save(data, "JPEG")
        made.append(data.getvalue())
    return made


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Random bytes in a frame: some, a block of them, its end, or all."""
    bad = bytearray(data)
    how = chance.randrange(4)
    if how == 0:
        for _ in range(chance.randint(1, 40)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
    elif how == 1:
        begin = chance.randrange(len(bad))
        bad[begin : begin + 200] = chance.randbytes(min(200, len(bad) - begin))
    elif how == 2:
        del bad[chance.randrange(len(bad)) :]
    else:
        bad[:] = chance.randbytes(len(bad))
    return bytes(bad)


class Camera(ABC):
    """A live source. `uri`: what is typed; `environment`: what a run needs to find it."""

    uri: str
    environment: Mapping[str, str] = {}

    @abstractmethod
    def unplug(self) -> None:
        """It is gone until `plug`."""

    @abstractmethod
    def plug(self) -> None:
        """It is there again."""

    @abstractmethod
    def silence(self, silent: bool) -> None:
        """Whether it sends nothing, though it is there."""

    @abstractmethod
    def damage(self, chance: random.Random) -> None:
        """Sends some damaged frames."""

    def close(self) -> None:
        self.unplug()


class Server(Camera):
    """One on loopback, for as many as ask.

    reset: ends every connection by RST; whoever asks again is answered.
    """

    def __init__(self, path: str):
        """`path`: its URI with `PORT` in it."""
        self._silent = threading.Event()
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._port = 0
        self._listening = self._listen()
        self.uri = path.replace("PORT", str(self._port))

    def _listen(self) -> socket.socket:
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        threading.Thread(target=self._accept, args=[listening], daemon=True).start()
        return listening

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listening.accept()
                with self._lock:
                    self._open.append(connection)
                threading.Thread(target=self._answer, args=[connection], daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError):
            self.serve(connection)

    @abstractmethod
    def serve(self, connection: socket.socket) -> None:
        """Sends frames, until it raises OSError as the connection is closed."""

    def wait_while_silent(self) -> None:
        while self._silent.is_set():
            time.sleep(0.02)

    def unplug(self) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)  # or accept() keeps it
        self._listening.close()
        self._hang_up(reset=False)

    def plug(self) -> None:
        self._listening = self._listen()

    def reset(self) -> None:
        self._hang_up(reset=True)

    def _hang_up(self, reset: bool) -> None:
        with self._lock:
            ended, self._open = self._open, []
        for connection in ended:
            with suppress(OSError):
                if reset:  # no lingering: what is not sent is thrown away, and the other side is told (socket(7))
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                else:
                    connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def silence(self, silent: bool) -> None:
        self._silent.set() if silent else self._silent.clear()


class WebCamera(Server):
    """JPEGs as parts of a body."""

    def __init__(self) -> None:
        self._jpegs = jpegs(8)
        self._instead: deque[bytes] = deque()  # of the next parts
        super().__init__("http://127.0.0.1:PORT/video")

    def serve(self, connection: socket.socket) -> None:
        connection.recv(4096)
        self.wait_while_silent()
        connection.sendall(BEGIN)
        for index in itertools.count():
            self.wait_while_silent()
            connection.sendall(self._next(index))
            time.sleep(1 / FPS)

    def _next(self, index: int) -> bytes:
        with suppress(IndexError):
            return self._instead.popleft()
        return part(self._jpegs[index % len(self._jpegs)])

    def damage(self, chance: random.Random) -> None:
        for _ in range(chance.randint(1, 5)):
            data = damaged(chance.choice(self._jpegs), chance)
            how = chance.randrange(4)
            sent = part(data)
            if how == 1:  # a length that is wrong
                sent = part(data, length=max(0, len(data) + chance.choice([-9, 7, 5000])))
            elif how == 2:  # between two parts
                sent += chance.randbytes(chance.randint(1, 300))
            elif how == 3:  # anywhere, its headers included
                sent = damaged(sent, chance)
            self._instead.append(sent)


def part(data: bytes, length: int | None = None) -> bytes:
    """As it stands in the body."""
    size = len(data) if length is None else length
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % size + data + b"\r\n"


class Device(Camera):
    """A V4L2 camera by its link in /dev/v4l/by-id, for a run that preloads `camera.c`."""

    NAME = "usb-fake-index0"

    def __init__(self, folder: Path, library: Path):
        self._file, self._link, self._jpeg = folder / "video0", folder / "by-id" / self.NAME, folder / "jpegs" / "0.jpg"
        for path in (self._link, self._jpeg):
            path.parent.mkdir()
        self._file.write_bytes(bytes(BUFFERS))
        self._link.symlink_to(self._file)
        self._data = jpegs(1)[0]
        self._show(self._data)
        self.uri = f"/dev/v4l/by-id/{self.NAME}?size={WIDTH}x{HEIGHT}&format=mjpeg"
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKE_V4L2": str(self._file),
            "FAKE_BY_ID": str(self._link.parent),
            "FAKE_JPEGS": str(self._jpeg.parent),
            "FAKE_FPS": f"{FPS:g}",
        }

    def _show(self, data: bytes) -> None:
        new = self._jpeg.with_suffix(".new")
        new.write_bytes(data)
        os.replace(new, self._jpeg)

    def unplug(self) -> None:
        self._link.unlink(missing_ok=True)
        self._beside("gone").touch()

    def plug(self) -> None:
        self._beside("gone").unlink(missing_ok=True)
        self._link.symlink_to(self._file)

    def _beside(self, what: str) -> Path:
        return self._file.with_name(f"{self._file.name}.{what}")

    def silence(self, silent: bool) -> None:
        self._beside("silent").touch() if silent else self._beside("silent").unlink(missing_ok=True)

    def damage(self, chance: random.Random) -> None:
        self._show(damaged(self._data, chance))
        time.sleep(chance.randint(1, 5) / FPS)
        self._show(self._data)
