"""A service manager that listens."""

import socket
import time


class Listener:
    """A datagram socket at an address of NOTIFY_SOCKET."""

    def __init__(self, address: str):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        """What came since the last call."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    def wait_for(self, message: str, seconds: float = 60.0) -> list[str]:
        """What came until that one did."""
        messages: list[str] = []
        until_s = time.monotonic() + seconds
        while message not in messages:
            assert time.monotonic() < until_s, messages
            messages += self.heard()
            time.sleep(0.02)
        return messages

    def __enter__(self) -> "Listener":
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()
