"""What a service manager is told of a run, by the protocol of sd_notify(3): a datagram of `KEY=VALUE` to the socket that
NOTIFY_SOCKET names. Without that variable nothing happens, and nothing that fails here is of interest to a run.

The loop itself tells that it is alive, from the place where it has done a frame: a thread of its own would go on while
the loop hangs.
"""

import os
import socket
import time
from collections.abc import Callable
from contextlib import suppress

SOCKET_VARIABLE = "NOTIFY_SOCKET"
START_GOES_ON_US = (
    60_000_000  # a start that is told so may last beyond TimeoutStartSec=; it is told again before that is over
)
EVERY_S = 1.0  # between two signs of life; a watchdog waits for many seconds


class ServiceManager:
    """systemd, or what speaks as it does. `now`: seconds by a monotonic clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic):
        self._now = now
        self._ready = False
        self._told_s = -EVERY_S

    def did_a_frame(self) -> None:
        """A frame is done: the first one ends the start, each is a sign of life."""
        if not self._ready:
            self._ready = True
            self._tell("READY=1")
        self.is_alive()

    def is_alive(self) -> None:
        """A sign of life where no frame is to be had: a camera that is away is asked for again."""
        now_s = self._now()
        if now_s - self._told_s >= EVERY_S:
            self._told_s = now_s
            if not self._ready:
                self._tell(f"EXTEND_TIMEOUT_USEC={START_GOES_ON_US}")
            self._tell("WATCHDOG=1")

    def says(self, line: str) -> None:
        """What `systemctl status` shows."""
        self._tell(f"STATUS={' '.join(line.split())}")

    def stops(self) -> None:
        """No frame is taken any more."""
        self._tell("STOPPING=1")

    @staticmethod
    def _tell(message: str) -> None:
        address = os.environ.get(SOCKET_VARIABLE, "")
        if not address.startswith(("/", "@")):  # other families are those of virtual machines
            return
        if address.startswith("@"):
            address = f"\0{address[1:]}"  # an abstract socket has no file
        with suppress(OSError, ValueError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)  # a manager that reads nothing holds no run up
            sender.sendto(message.encode(errors="replace"), address)


SERVICE_MANAGER = ServiceManager()  # a process has one, as it has one environment
