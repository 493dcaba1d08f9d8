"""The server's thread: it starts before the first frame, ends at once, and no viewer reaches the loop."""

import os
import threading
import time

import pytest

from edgeprune.base.errors import RunError
from edgeprune.runtime.page.address import Address
from tests.runtime.page.conftest import Serve, publish_noise, until
from tests.runtime.page.test_app import pictures_of


def test_it_ends_at_once_whatever_its_viewers_do(serve: Serve) -> None:
    served = serve()
    viewers = [served.connect(), served.connect(b"GET / HT"), served.watch(), served.watch()]
    until(lambda: served.page.viewers == 2)
    for index in range(40):  # more than a connection holds
        publish_noise(served.publisher, index)
        time.sleep(0.01)
    began_s = time.monotonic()
    served.server.stop()
    assert time.monotonic() - began_s < 10 and not served.server._thread.is_alive()
    with pytest.raises(ConnectionError):
        served.connect()
    for each in viewers:
        each.close()
    with Address("127.0.0.1", served.port).bind() as again:  # the port is free
        again.listen()
    served.server.stop()


def test_a_server_that_fails_leaves_no_thread_and_no_socket(serve: Serve, said: list[str]) -> None:
    served = serve()  # skips where its libraries are missing
    listener = Address("127.0.0.1", 0).bind()
    os.close(listener.detach())  # as if it were gone
    with pytest.raises(RunError, match="the live page did not start; leave --view out"):
        type(served.server)(served.page.app, listener)
    assert len(said) == 1 and said[0].startswith("live page: it ended (")


def test_the_loop_waits_for_nothing_in_the_page(serve: Serve) -> None:
    """Even where the page's thread hangs."""
    served = serve()
    hanging, free = threading.Event(), threading.Event()

    def hang() -> None:
        hanging.set()
        free.wait(60)

    served.server._loop.call_soon_threadsafe(hang)
    assert hanging.wait(60)
    for index in range(500):
        served.publish(index % 6)
    assert served.publisher.take().totals.frames == 500 and not free.is_set()
    free.set()
    assert served.ask("/stats").json["frames"] == 500


def test_a_slow_viewer_skips_frames_and_others_do_not_wait(serve: Serve) -> None:
    served = serve()
    with served.watch() as slow, served.watch() as quick:
        until(lambda: served.page.viewers == 2)
        seen: list[int] = []
        for index in range(60):
            publish_noise(served.publisher, index)
            seen += [number for number, _ in pictures_of(quick, 1)]
        assert seen == list(range(1, 61))
        late: list[int] = []
        while not late or late[-1] < 60:
            late += [number for number, _ in pictures_of(slow, 1)]
            assert len(late) < 60, "it got every frame"
        assert late == sorted(set(late))


def test_a_flood_takes_its_share_and_no_more(serve: Serve) -> None:
    """As the operating system counts the thread's time. At its share of 8% it takes a tenth of what the flood would have."""
    served = serve(share=0.08)
    served.publish(0)
    done = threading.Event()

    def flood() -> None:
        request = b"GET /snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n"
        while not done.is_set():
            with served.connect() as connection:
                connection.settimeout(0.5)
                try:
                    for _ in range(50):
                        connection.sendall(request)
                        connection.recv(1 << 16)
                except OSError:
                    continue

    threads = [threading.Thread(target=flood) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        spent: list[float] = []
        for _ in range(2):
            served.server._loop.call_soon_threadsafe(lambda: spent.append(time.thread_time()))
            time.sleep(1.0)
        until(lambda: len(spent) == 2)
        assert spent[1] - spent[0] < 0.25
    finally:
        done.set()
        for each in threads:
            each.join()
