"""[HOST:]PORT, and the token."""

import socket

import pytest

from edgeprune.base.errors import InputError
from edgeprune.runtime.page.address import (
    TOKEN_VARIABLE,
    Address,
    address_to_open,
    is_loopback,
    make_token,
    read_address,
)


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("8080", "127.0.0.1", 8080),
        ("0", "127.0.0.1", 0),
        ("0.0.0.0:8080", "0.0.0.0", 8080),
        ("[::1]:80", "::1", 80),
        ("robot.local:65535", "robot.local", 65535),
    ],
)
def test_a_port_alone_is_of_this_machine(name: str, host: str, port: int) -> None:
    assert read_address(name) == Address(host, port)


@pytest.mark.parametrize(
    "name", ["", "x", ":80", "65536", "-1", "8080/", "http://x:80", "::1:80", "a b:80", "127.0.0.1:", "٣"]
)
def test_what_is_no_address(name: str) -> None:
    with pytest.raises(InputError, match=r"is no port, 0 to 65535, .*; type 8080 for this machine alone"):
        read_address(name)


def test_a_port_that_is_taken() -> None:
    with Address("127.0.0.1", 0).bind() as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            InputError, match=rf"--view: port {port} is taken by another program; type another, such as"
        ):
            Address("127.0.0.1", port).bind()
    with pytest.raises(InputError, match=r"203\.0\.113\.7 is no address of this machine; type a port alone"):
        Address("203.0.113.7", 8080).bind()
    with pytest.raises(InputError, match="no-such-host.invalid has no address"):
        Address("no-such-host.invalid", 8080).bind()


def test_the_network_needs_a_token_and_this_machine_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    with Address("127.0.0.1", 0).bind() as local, Address("0.0.0.0", 0).bind() as everywhere:
        assert is_loopback(local) and not is_loopback(everywhere)
        assert make_token(local) is None
        first, second = make_token(everywhere), make_token(everywhere)
        assert first and second and first != second and len(first) >= 20
        port = everywhere.getsockname()[1]
        shown = address_to_open(everywhere, "0.0.0.0", first)
        assert shown.endswith(f":{port}/?token={first}") and "0.0.0.0" not in shown
        assert address_to_open(local, "localhost", None) == f"http://localhost:{local.getsockname()[1]}/"


def test_a_token_of_the_environment_is_needed_everywhere_and_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    given = "0123456789abcdef"
    monkeypatch.setenv(TOKEN_VARIABLE, given)
    with Address("127.0.0.1", 0).bind() as local:
        assert make_token(local) == given
        shown = address_to_open(local, "127.0.0.1", given)
        assert given not in shown and shown.endswith(f"/?token=${TOKEN_VARIABLE}")
        for wrong in ("", "short", "0123456789abcde ", "0123456789abcdef\n", "x" * 257):
            monkeypatch.setenv(TOKEN_VARIABLE, wrong)
            with pytest.raises(InputError, match=rf"{TOKEN_VARIABLE} holds {len(wrong)} characters; 16 to 256") as said:
                make_token(local)
            assert not wrong or wrong not in str(said.value)


def test_ipv6_stands_in_brackets() -> None:
    try:
        listener = Address("::1", 0).bind()
    except InputError:
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family == socket.AF_INET6 and is_loopback(listener)
        assert address_to_open(listener, "::1", None) == f"http://[::1]:{listener.getsockname()[1]}/"
