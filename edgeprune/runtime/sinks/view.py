"""A page that shows a run while it runs: `run --view 8080`."""

import logging
from collections.abc import Mapping
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
    look_at_address(name)
    with read_address(name).bind() as listener:
        make_token(listener)


def look_at_address(name: str) -> None:
    """Raises InputError for no address, or where the extra is missing; listens nowhere."""
    read_address(name)
    load_page()


class Site:
    """The page of a run, served from here on.

    Args:
        name: its address, as it was typed.
        cameras: by their names, what is known of each; of a run of one camera that one, without a name.

    Attributes:
        note: the address to open.

    Raises:
        InputError: as `check_view`.
    """

    def __init__(self, name: str, cameras: Mapping[str, Publisher]):
        address = read_address(name)
        app, guard, server = load_page()
        self._faults = [_Faults(publisher) for publisher in cameras.values()]
        listener = address.bind()
        try:
            token, local = make_token(listener), is_loopback(listener)
            hosts = frozenset({*HOSTS, address.host.lower()}) if local and token is None else None
            access = guard.Access(token, hosts, f"edgeprune_{listener.getsockname()[1]}")
            self.note = f"live page: {address_to_open(listener, address.host, token)}"
            self._server: Any = server.Server(app.make_app(cameras, access), listener)
        except BaseException:
            listener.close()
            raise
        for faults in self._faults:
            FAULTS.addHandler(faults)

    def close(self) -> None:
        """Ends it; a second time it does nothing."""
        for faults in self._faults:
            FAULTS.removeHandler(faults)
        self._server.stop()


class CameraView(Sink):
    """Leaves each frame of a camera where the page finds it; drawing and serving is done in the page's thread. The page goes on
    where the camera ends."""

    def __init__(self, publisher: Publisher):
        self._publisher = publisher

    def learn(self, about: About) -> None:
        self._publisher.about = about

    def add(self, result: Result, row: Row) -> Row:
        self._publisher.publish(result, row)
        return row

    def close(self) -> None:
        self._publisher.ended = True

    def abandon(self) -> None:
        self.close()


class View(CameraView):
    """The page of one camera, which ends with it.

    Attributes:
        note: the address to open.
    """

    def __init__(self, name: str, source: FrameSource):
        super().__init__(Publisher(source))
        self._site = Site(name, {"": self._publisher})
        self.note = self._site.note

    def close(self) -> None:
        self._site.close()


def open_view_of_several(name: str, sources: Mapping[str, FrameSource]) -> tuple[Site, dict[str, Sink]]:
    """The page of several cameras, and what takes each one's frames, by its name. Raises InputError as `Site`."""
    publishers = {camera: Publisher(source) for camera, source in sources.items()}
    return Site(name, publishers), {camera: CameraView(publisher) for camera, publisher in publishers.items()}


class _Faults(logging.Handler):
    """Hands the lines that the run warns of to the page."""

    def __init__(self, publisher: Publisher):
        super().__init__(logging.WARNING)
        self._publisher = publisher

    def emit(self, record: logging.LogRecord) -> None:
        self._publisher.warn(record.getMessage())
