"""Who watches the page of a run: one who reads, and those who hang."""

import random
import socket
import threading
from contextlib import suppress

REQUEST = b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Viewer(threading.Thread):
    """Plays the stream until the run ends it."""

    def __init__(self, port: int):
        super().__init__(daemon=True)
        self._port = port
        self.start()

    def run(self) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as stream:
            stream.sendall(REQUEST)
            while stream.recv(1 << 16):
                pass


def hang(port: int, chance: random.Random) -> list[socket.socket]:
    """Several who connect and then do nothing: read nothing of the stream, stop within the request, or say nothing at all."""
    hanging = []
    for _ in range(chance.randint(1, 12)):
        viewer = socket.socket()
        viewer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        hanging.append(viewer)
        with suppress(OSError):
            viewer.connect(("127.0.0.1", port))
            viewer.sendall(chance.choice([REQUEST, REQUEST, REQUEST[: chance.randrange(1, len(REQUEST) - 1)], b""]))
    return hanging
