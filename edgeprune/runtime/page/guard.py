"""Before any answer: who asks, by which name, for what; and what every answer says to the browser."""

import hmac
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

METHODS = ("GET", "HEAD")
URL_BYTES = 1024
COOKIE_S = 7 * 24 * 3600
# nothing but this page's own files; no frame around it, no form, no plugin
HEADERS = {
    "content-security-policy": (
        "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who may see the page.

    Attributes:
        token: what a viewer has to know; None: nothing.
        hosts: the names by which it is asked for; None: any. On the loopback another name is that of a stranger's page, whose
            name was made to lead here (DNS rebinding); elsewhere the token keeps it out.
        cookie: the name of the one that holds the token. A cookie is for every port of a host, so each has its own.
    """

    token: str | None
    hosts: frozenset[str] | None
    cookie: str


class Guard:
    """Answers what may not pass by a line of text, and ends its connection; adds HEADERS to all answers."""

    def __init__(self, app: ASGIApp, access: Access):
        self._app, self._access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """An ASGI application; only HTTP reaches it."""
        request = Request(scope, receive)
        refusal = self._refusal(request)
        new_cookie = not refusal and self._by_query(request)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                if message["status"] >= 400:
                    headers["connection"] = "close"
                if new_cookie:
                    headers.append("set-cookie", self._cookie())
            await send(message)

        try:
            await (refusal or self._app)(scope, receive, send_with_headers)
        except Exception as error:  # a flaw of ours is no concern of the loop
            logger.warning(f"live page: {type(error).__name__} in the answer to {scope['path']!r:.80}: {error}")

    def _refusal(self, request: Request) -> PlainTextResponse | None:
        """Why it may not pass."""
        headers, access = request.headers, self._access
        if len(request.scope["raw_path"]) + len(request.scope["query_string"]) > URL_BYTES:
            return line(414, f"an address has at most {URL_BYTES} characters")
        if access.hosts is not None and host_name(headers.get("host", "")) not in access.hosts:
            return line(421, "this page answers to localhost and 127.0.0.1 alone")
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return line(403, "this page is no part of another")
        if request.method not in METHODS:
            return line(405, "GET and HEAD are all that there is", {"allow": ", ".join(METHODS)})
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return line(413, "a request has no body")
        if access.token is not None and not self._known(request):
            challenge = {"www-authenticate": 'Bearer realm="edgeprune"'}
            return line(401, "open the address that the run printed, with its ?token=", challenge)
        return None

    def _known(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [bearer.strip()] if scheme.lower() == "bearer" else []
        given += [request.cookies.get(self._access.cookie, "")]
        return self._by_query(request) or any(self._is_token(each) for each in given)

    def _by_query(self, request: Request) -> bool:
        """Whether the token stands in the address."""
        return self._access.token is not None and self._is_token(request.query_params.get("token", ""))

    def _is_token(self, given: str) -> bool:
        """In a time that says nothing of how much of it is right."""
        return hmac.compare_digest(given.encode(), (self._access.token or "").encode())

    def _cookie(self) -> str:
        """No script reads it, and no other site's page sends it."""
        return f"{self._access.cookie}={self._access.token}; Max-Age={COOKIE_S}; Path=/; HttpOnly; SameSite=Strict"


def line(status: int, text: str, headers: Mapping[str, str] | None = None) -> PlainTextResponse:
    """An answer of one line."""
    return PlainTextResponse(f"{text}\n", status, dict(headers or {}))


def host_name(host: str) -> str:
    """Of `localhost:8080`, `[::1]:8080`: the name without its port, in small letters."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).strip("[]").lower()
