"""Where the page is served, `[HOST:]PORT`, and the secret that it takes to see it from elsewhere."""

import errno
import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass

from edgeprune.base.errors import InputError

LOOPBACK = "127.0.0.1"
TOKEN_VARIABLE = "EDGEPRUNE_VIEW_TOKEN"
TOKEN = re.compile(r"[A-Za-z0-9._~-]{16,256}")  # what a URL, a header and a cookie take as it is
WAITING = 64  # connections that the kernel holds until they are accepted
SENT_BYTES = 1 << 17  # that it holds for a viewer: more would be pictures of seconds ago, to a slow one
MOST_PORT = 65535
_ADDRESS = re.compile(r"(?:(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):)?(?P<port>[0-9]{1,5})")


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Attributes:
        host: a name or an address, without brackets.
        port: 0: any free one.
    """

    host: str
    port: int

    def bind(self) -> socket.socket:
        """A socket that listens there; the kernel holds who comes before anybody accepts.

        Raises:
            InputError: the host has no address here, or the port is taken or not for us.
        """
        try:
            family, kind, protocol, _, where = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)[0]
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"--view: {self.host} has no address ({error}); type a port alone, such as 8080, or an address of this machine"
            ) from error
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SENT_BYTES)  # a connection has that of its listener
            bound.bind(where)
            bound.listen(WAITING)
        except OSError as error:
            bound.close()
            raise InputError(f"--view: {self._why(error)}") from error
        return bound

    def _why(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            free = self.port + 1 if self.port < MOST_PORT else self.port - 1
            return (
                f"port {self.port} is taken by another program; type another, such as {free}, or 0 for one that is free"
            )
        if error.errno in (errno.EACCES, errno.EPERM):
            return f"port {self.port} is for the administrator; type one from 1024 up, such as 8080"
        if error.errno == errno.EADDRNOTAVAIL:
            return f"{self.host} is no address of this machine; type a port alone, or 0.0.0.0:{self.port} for all that it has"
        return f"cannot listen on {self.host}, port {self.port} ({error.strerror}); type another"


def read_address(name: str) -> Address:
    """`8080`, `0.0.0.0:8080`, `[::1]:8080` -> the address; of a port alone the loopback's.

    Raises:
        InputError: it is none.
    """
    found = _ADDRESS.fullmatch(name)
    if not found or int(found["port"]) > MOST_PORT:
        raise InputError(
            f"--view: {name!r:.80} is no port, 0 to {MOST_PORT}, with or without a host; type 8080 for this machine alone, or "
            "0.0.0.0:8080 for its network"
        )
    return Address((found["host"] or LOOPBACK).strip("[]"), int(found["port"]))


def is_loopback(listener: socket.socket) -> bool:
    """Whether only programs of this machine reach it."""
    return ipaddress.ip_address(listener.getsockname()[0].partition("%")[0]).is_loopback


def make_token(listener: socket.socket) -> str | None:
    """What a viewer has to know: `$EDGEPRUNE_VIEW_TOKEN`, else a new one; on the loopback None without such a variable.

    Raises:
        InputError: the variable's is too short, or can't stand in a URL.
    """
    given = os.environ.get(TOKEN_VARIABLE)
    if given is None:
        return None if is_loopback(listener) else secrets.token_urlsafe(16)
    if not TOKEN.fullmatch(given):
        raise InputError(
            f"{TOKEN_VARIABLE} holds {len(given)} characters; 16 to 256 letters, digits, '-', '.', '_' and '~' are expected, "
            "or no such variable at all"
        )
    return given


def address_to_open(listener: socket.socket, host: str, token: str | None) -> str:
    """What to type in a browser. A token that came from the environment is known, and not written to a log."""
    address, port = listener.getsockname()[:2]
    if ipaddress.ip_address(address.partition("%")[0]).is_unspecified:
        host = _outward(listener.family) or socket.gethostname()
    host = f"[{host}]" if ":" in host else host
    if token is None:
        return f"http://{host}:{port}/"
    return f"http://{host}:{port}/?token={f'${TOKEN_VARIABLE}' if TOKEN_VARIABLE in os.environ else token}"


def _outward(family: int) -> str | None:
    """The address of this machine that others see; a datagram's socket finds the way without sending anything."""
    nowhere = "2001:db8::1" if family == socket.AF_INET6 else "192.0.2.1"  # of documentation (RFC 3849, RFC 5737)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((nowhere, 9))
            return str(probe.getsockname()[0])
        except OSError:  # no network
            return None
