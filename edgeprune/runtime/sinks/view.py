"""A page that shows a run while it runs: `run --view 8080`."""

import logging
from types import ModuleType
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.runtime.about import About
from edgeprune.runtime.cameras.source import FrameSource
from edgeprune.runtime.page.address import address_to_open, is_loopback, make_token, read_address
from edgeprune.runtime.page.publisher import Publisher
from edgeprune.runtime.row import Row
from edgeprune.runtime.sinks.sink import Sink
from edgeprune.runtime.tasks import Result

HOSTS = ("localhost", "127.0.0.1", "::1")
FAULTS = logging.getLogger("edgeprune")  # whose warnings are the page's faults


def load_page() -> tuple[ModuleType, ModuleType, ModuleType]:
    """`app`, `guard` and `server` of the page.

    Raises:
        InputError: their libraries aren't installed.
    """
    try:
        from edgeprune.runtime.page import app, guard, server
    except ImportError as error:
        raise InputError(
            f"--view needs libraries that cannot be imported ({error}); pip install 'edgeprune[view]'"
        ) from error
    return app, guard, server


def check_view(name: str) -> None:
    """Refuses what can't be served, before anything is begun; it writes nothing.

    Raises:
        InputError: no such address, one that is taken, a token that is none, or the extra is missing.
    """
    address = read_address(name)
    load_page()
    with address.bind() as listener:
        make_token(listener)


class View(Sink):
    """Leaves each frame where the page finds it; drawing and serving is done in the page's thread.

    Attributes:
        note: the address to open.
    """

    def __init__(self, name: str, source: FrameSource):
        address = read_address(name)
        app, guard, server = load_page()
        self._publisher = Publisher(source)
        self._faults = _Faults(self._publisher)
        listener = address.bind()
        try:
            token, local = make_token(listener), is_loopback(listener)
            hosts = frozenset({*HOSTS, address.host.lower()}) if local and token is None else None
            access = guard.Access(token, hosts, f"edgeprune_{listener.getsockname()[1]}")
            self.note = f"live page: {address_to_open(listener, address.host, token)}"
            self._server: Any = server.Server(app.make_app(self._publisher, access), listener)
        except BaseException:
            listener.close()
            raise
        FAULTS.addHandler(self._faults)

    def learn(self, about: About) -> None:
        self._publisher.about = about

    def add(self, result: Result, row: Row) -> Row:
        self._publisher.publish(result, row)
        return row

    def close(self) -> None:
        FAULTS.removeHandler(self._faults)
        self._server.stop()

    def abandon(self) -> None:
        self.close()


class _Faults(logging.Handler):
    """Hands the lines that the run warns of to the page."""

    def __init__(self, publisher: Publisher):
        super().__init__(logging.WARNING)
        self._publisher = publisher

    def emit(self, record: logging.LogRecord) -> None:
        self._publisher.warn(record.getMessage())
