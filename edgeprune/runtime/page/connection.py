"""A connection that can't stay for nothing: uvicorn's, with bounds on how many there are and how long one may idle or stall."""

import asyncio
import logging
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger(__name__)

MOST = 48  # connections at a time; more are closed unheard
LOOK_S = 1.0  # between two looks at each
IDLE_S = 10.0  # for a whole request, since the connection or its last answer
STALLED_S = 10.0  # for a viewer who takes nothing of what is sent
HEADER_BYTES = 16 * 1024


class Connection(H11Protocol):
    """uvicorn's protocol bounds the wait between two requests alone: not that for the first, nor that for a reader."""

    _since_s = 0.0  # the connection, or the last answer, or the last that was taken of one
    _look: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuses one too many."""
        super().connection_made(transport)
        if len(self.connections) > MOST:
            transport.abort()
            return
        transport.set_write_buffer_limits(high=0)  # the next picture is made when the last is with the kernel
        self._since_s = self.loop.time()
        self._look = self.loop.call_later(LOOK_S, self._look_after)

    def _look_after(self) -> None:
        """Ends what idles or stalls."""
        waited_s = self.loop.time() - self._since_s
        busy = self.cycle is not None and not self.cycle.response_complete
        if waited_s > (STALLED_S if busy else IDLE_S) and (self.flow.write_paused or not busy):
            self.transport.abort()
            return
        self._look = self.loop.call_later(LOOK_S, self._look_after)

    def pause_writing(self) -> None:
        """Nothing more is taken."""
        self._since_s = self.loop.time()
        super().pause_writing()

    def on_response_complete(self) -> None:
        """The next request may take as long as the first."""
        self._since_s = self.loop.time()
        super().on_response_complete()

    def data_received(self, data: bytes) -> None:
        """What h11 can't answer in the state that it is in ends the connection."""
        try:
            super().data_received(data)
        except Exception as error:
            self._fail(error)

    def send_400_response(self, msg: str) -> None:
        """For no HTTP; in the midst of an answer there is nothing to say. A request before it gets none, for nobody listens."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError as error:
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        logger.debug(f"live page: a connection ended by {type(error).__name__}: {error}")
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forgets it."""
        if self._look is not None:
            self._look.cancel()
        super().connection_lost(exc)


def quietly(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An asyncio loop's exception handler: no traceback for what a viewer's connection does."""
    logger.debug(f"live page: {context.get('message')}: {context.get('exception')}")
