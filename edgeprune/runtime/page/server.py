"""uvicorn in a thread of its own, on a socket that listens already."""

import asyncio
import logging
import socket
import threading
from contextlib import suppress

import uvicorn
from starlette.types import ASGIApp

from edgeprune.base.errors import RunError
from edgeprune.runtime.page.address import WAITING
from edgeprune.runtime.page.connection import HEADER_BYTES, Connection, quietly
from edgeprune.runtime.page.processor_share import BoundedSelector

logger = logging.getLogger(__name__)

SHARE = 0.06  # of one core
START_S = 10.0  # a busy machine may take long to start a thread
STOP_S = 0.5  # a run is ended within a second
KEEP_ALIVE_S = 5


class Server:
    """Serves from its making until `stop`.

    Args:
        app: what answers.
        listener: listens already; the server's from here on.
        share: of one core, that it may take.

    Raises:
        RunError: it doesn't start.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, share: float = SHARE):
        config = uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="critical",  # what a viewer's bytes do to a connection is no news
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=WAITING,
            timeout_keep_alive=KEEP_ALIVE_S,
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        self._server, self._listener = uvicorn.Server(config), listener
        self._selector = BoundedSelector(share)
        self._loop = asyncio.SelectorEventLoop(self._selector)
        self._loop.set_exception_handler(quietly)
        self._started = threading.Event()
        self._failed = False
        self._serving: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._run, name="live page", daemon=True)
        self._thread.start()
        if not self._started.wait(START_S) or self._failed:
            self.stop()
            raise RunError("the live page did not start; leave --view out")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            with suppress(asyncio.CancelledError):  # the end
                self._loop.run_until_complete(self._serve())
        except Exception as error:
            self._failed = True
            logger.warning(f"live page: it ended ({type(error).__name__}: {error}); the run goes on")
        finally:
            self._started.set()
            self._end()

    async def _serve(self) -> None:
        self._serving = asyncio.current_task()
        self._loop.call_soon(self._started.set)
        await self._server.serve(sockets=[self._listener])

    def _end(self) -> None:
        """Ends all connections, whatever their viewers do, and what waits for them."""
        for server in getattr(self._server, "servers", []):
            server.close()
        self._listener.close()
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def stop(self) -> None:
        """Ends it, within STOP_S; a second time it does nothing."""
        self._selector.hurry()
        if self._serving is not None:
            with suppress(RuntimeError):  # the loop is closed already
                self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join(STOP_S)
