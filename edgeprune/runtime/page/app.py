"""What the page answers: itself, the stream, a snapshot, the figures, Prometheus' metrics, its health."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from edgeprune.base.errors import nearest
from edgeprune.runtime.page.figures import Figures
from edgeprune.runtime.page.guard import METHODS, Access, Guard, line
from edgeprune.runtime.page.metrics import CONTENT_TYPE, Metrics
from edgeprune.runtime.page.pictures import Pictures
from edgeprune.runtime.page.publisher import Publisher

MOST_VIEWERS = 8
LOOK_S = 0.025  # between two looks for a newer frame: 40 pictures a second at most
LOOKS_FOR_TOKENS = 40  # of a snapshot, for a frame that has them: a second
AGAIN_S = 2.0  # the same picture is sent again: who is gone is noticed, and proxies hold the connection
BOUNDARY = "edgeprune-frame"
# Before the first picture, and behind each: a browser shows one when the next begins. So no length can be told beforehand.
DIVIDER = f"\r\n--{BOUNDARY}\r\nContent-Type: image/jpeg\r\n\r\n".encode()
FOLDER = Path(__file__).parent
FILES = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
Answer = Callable[[Request], Awaitable[Response]]


def make_app(cameras: Mapping[str, Publisher], access: Access) -> Guard:
    """The page of a run, of its cameras by their names."""
    return Guard(Page(cameras).app, access)


class Page:
    """Its routes. All runs in the server's thread.

    Args:
        cameras: by their names, in the order in which they are chosen from; of a run of one camera that one, without a name.

    Attributes:
        app: without its guard.
        pictures: of each camera, for its viewers.
        viewers: how many watch a stream.
    """

    def __init__(self, cameras: Mapping[str, Publisher]):
        self._cameras = dict(cameras)
        self.pictures = {name: Pictures(publisher) for name, publisher in cameras.items()}
        self.viewers = 0
        self._figures = {name: Figures(name, self._cameras, pictures) for name, pictures in self.pictures.items()}
        self._metrics = Metrics(self._cameras, lambda: self.viewers)
        answers: dict[str, Answer] = {
            "/stream.mjpg": self._stream,
            "/snapshot.jpg": self._snapshot,
            "/stats": self._stats,
            "/metrics": self._prometheus,
            "/healthz": self._health,
        }
        answers |= {path: _file(name, kind) for path, (name, kind) in FILES.items()}
        routes = [Route(path, answer, methods=METHODS) for path, answer in answers.items()]
        self.app = Starlette(routes=routes, exception_handlers={404: _not_found, 500: _failed})
        self.app.router.redirect_slashes = False

    def _camera(self, request: Request) -> str | Response:
        """The name of the camera that is asked for, by default the first; or what is answered to one that there is not."""
        first = next(iter(self._cameras))
        name = request.query_params.get("camera", first)
        if name in self._cameras:
            return name
        known = [each for each in self._cameras if each]
        if not known:
            return line(404, "this run has one camera; leave camera= out")
        return line(404, f"no such camera{nearest(name, known)}; there are {', '.join(known)}")

    async def _stream(self, request: Request) -> Response:
        name = self._camera(request)
        if isinstance(name, Response):
            return name
        if self.viewers >= MOST_VIEWERS:
            return line(503, f"{MOST_VIEWERS} are watching, which is all that this page serves")
        return _Stream(self, self.pictures[name], _wants_tokens(request))

    async def _snapshot(self, request: Request) -> Response:
        name = self._camera(request)
        if isinstance(name, Response):
            return name
        pictures, tokens = self.pictures[name], _wants_tokens(request)
        picture = pictures.newest(tokens)
        for _ in range(LOOKS_FOR_TOKENS if tokens and self._cameras[name].map_tokens() else 0):
            if picture and picture.mapped:
                break
            await asyncio.sleep(LOOK_S)
            picture = pictures.newest(tokens)
        if picture is None:
            return line(503, "no frame yet")
        headers = {"content-disposition": f'inline; filename="{name or "frame"}-{picture.number}.jpg"'}
        return Response(picture.jpeg, media_type="image/jpeg", headers=headers)

    async def _stats(self, request: Request) -> Response:
        name = self._camera(request)
        if isinstance(name, Response):
            return name
        return Response(self._figures[name].json(self.viewers), media_type="application/json")

    async def _prometheus(self, request: Request) -> Response:
        return Response(self._metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def _health(self, request: Request) -> Response:
        silences = {name: publisher.silence() for name, publisher in self._cameras.items()}
        silent = "; ".join(f"{name}: {why}" if name else why for name, why in silences.items() if why)
        if all(silences.values()):
            return line(503, silent)
        return line(200, f"ok; {silent}" if silent else "ok")


def _wants_tokens(request: Request) -> bool:
    """`?tokens=1`: the picture with what the first decision made of its tokens."""
    return request.query_params.get("tokens") == "1"


def _file(name: str, kind: str) -> Answer:
    """A file of the page, read once."""
    content = (FOLDER / name).read_bytes()

    async def answer(request: Request) -> Response:
        return Response(content, headers={"content-type": kind})

    return answer


async def _not_found(request: Request, error: Exception) -> Response:
    return line(404, "no such page; there are /, /stream.mjpg, /snapshot.jpg, /stats, /metrics and /healthz")


async def _failed(request: Request, error: Exception) -> Response:
    return line(500, "the page failed; the run goes on")


class _Stream(Response):
    """Pictures one after the other, each in place of the one before (multipart/x-mixed-replace, which every browser plays as an
    image). A viewer who takes long gets the newest picture then, not those between."""

    def __init__(self, page: Page, pictures: Pictures, tokens: bool):
        super().__init__(headers={"content-type": f"multipart/x-mixed-replace; boundary={BOUNDARY}"})
        del self.headers["content-length"]
        self._page, self._pictures, self._tokens = page, pictures, tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        self._page.viewers += 1
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await send({"type": "http.response.body", "body": DIVIDER, "more_body": True})
            await self._play(send, gone)
        finally:
            self._page.viewers -= 1
            gone.cancel()
            with suppress(asyncio.CancelledError):
                await gone

    async def _play(self, send: Send, gone: "asyncio.Future[None]") -> None:
        """Until the viewer is gone."""
        clock = asyncio.get_running_loop().time
        sent, sent_s = 0, 0.0
        while not gone.done():
            picture = self._pictures.newest(self._tokens)
            if picture and (picture.number != sent or clock() - sent_s > AGAIN_S):
                await send({"type": "http.response.body", "body": picture.jpeg + DIVIDER, "more_body": True})
                sent, sent_s = picture.number, clock()
            await asyncio.sleep(LOOK_S)


async def _gone(receive: Receive) -> None:
    """Ends when the viewer has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
