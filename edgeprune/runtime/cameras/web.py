"""Cameras that send video over HTTP: http://[user:password@]host[:port]/path, mostly one JPEG after the other.

A body of parts (multipart/x-mixed-replace) is read here; another stream without an end goes through PyAV (MPEG-TS, say). What
has a length is a file, and is refused: a server would send it as fast as the network goes.
"""

import http.client
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit, urlunsplit

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.masking import masked, masked_uri
from edgeprune.runtime.cameras.decoder import Named
from edgeprune.runtime.cameras.decoding import accel_of
from edgeprune.runtime.cameras.jpegs import JpegDecoder
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.live import LiveStream
from edgeprune.runtime.cameras.multipart import BadPart, parts_of
from edgeprune.runtime.cameras.pyav import load_av, open_bytes
from edgeprune.runtime.cameras.source import CameraAway, CameraLost, CameraStalled, FrameSource, Picture

TIMEOUT_S = 8.0  # for an answer, and without a byte of the stream, before the camera counts as stalled
MOST_REDIRECTS = 5
REFUSED = {  # what to do about a status
    401: "wrong or no user and password; type them as in http://user:password@host/path",
    403: "the camera's user may not see this",
    404: "check the path of the stream",
}


class _Address(NamedTuple):
    """A URI without its user and password, and these, which are of its host alone."""

    uri: str
    host: str
    user: str | None
    password: str


class _Redirect(urllib.request.HTTPRedirectHandler):
    """Few, to HTTP alone, and never from an encrypted address to one that isn't."""

    max_redirections = MOST_REDIRECTS

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        schemes = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme.lower() not in schemes:
            raise urllib.error.HTTPError(masked_uri(newurl), code, "leads to another scheme", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def open_web(uri: str, wanted: Wanted) -> FrameSource:
    """Connects to a camera's stream; its source raises CameraStalled after TIMEOUT_S of silence.

    Raises:
        InputError: wrong password, a certificate that nobody vouches for, no stream, or no video in it. CameraAway: no answer
            within TIMEOUT_S, refused, or no such path, which one that is still starting says as well.
    """
    load_av()
    shown = masked_uri(uri)
    response = _request(uri, shown)
    try:
        kind = response.headers.get_content_type()
        if kind.startswith("multipart/"):
            return WebCamera(uri, response, wanted)
        if kind.startswith(("image/", "text/")) or response.length is not None:
            size = f", {response.length:,} bytes" if response.length is not None else ""
            raise InputError(
                f"{shown} is no stream but {kind}{size}; name the path of the camera's stream, or download the file and give "
                "its name"
            )
        return _other_stream(uri, shown, response, wanted)
    except BaseException:
        response.close()
        raise


def _address(uri: str, shown: str) -> _Address:
    try:
        parts = urlsplit(uri)
        _ = parts.port  # raises where it is none
    except ValueError:  # its text may hold the password
        raise InputError(f"{shown} is no URI; check its port, its brackets and its characters") from None
    if not parts.hostname:
        raise InputError(f"no host in {shown}; type http://host/path")
    host = parts.netloc.rpartition("@")[2]
    plain = urlunsplit((parts.scheme, host, parts.path or "/", parts.query, ""))
    return _Address(
        plain, host, None if parts.username is None else unquote(parts.username), unquote(parts.password or "")
    )


def _request(uri: str, shown: str) -> http.client.HTTPResponse:
    """The response, whose body is to be read."""
    address = _address(uri, shown)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if address.user is not None:
        passwords.add_password(None, address.host, address.user, address.password)
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),  # a camera is reached directly
        urllib.request.HTTPBasicAuthHandler(passwords),
        urllib.request.HTTPDigestAuthHandler(passwords),
        _Redirect,
    )
    try:
        response: http.client.HTTPResponse = opener.open(address.uri, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        error.close()
        hint = REFUSED.get(error.code, "check the address and the path of the stream")
        refusal = CameraAway if error.code == 404 or error.code >= 500 else InputError
        raise refusal(f"cannot open {shown}: HTTP {error.code} {masked(str(error.reason))}; {hint}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise _unreachable(shown, error) from None
    return response


def _unreachable(shown: str, error: Exception) -> InputError:
    reason = getattr(error, "reason", error)  # of URLError: another exception, or text
    if isinstance(reason, TimeoutError):
        return CameraAway(f"no answer from {shown} within {TIMEOUT_S:g} s; check the address, the port and the network")
    if isinstance(reason, ssl.SSLCertVerificationError):
        return InputError(
            f"cannot open {shown}: {reason.verify_message}; set SSL_CERT_FILE to the camera's certificate, or type http://"
        )
    if isinstance(error, http.client.HTTPException):
        refusal = CameraAway if isinstance(error, OSError) else InputError  # it hung up
        return refusal(f"{shown} does not answer in HTTP; check the address, the port and the path")
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else masked(str(reason))
    refusal = CameraAway if isinstance(reason, OSError) else InputError
    return refusal(f"cannot open {shown}: {text}; check the address, the port and the network")


def _other_stream(uri: str, shown: str, response: http.client.HTTPResponse, wanted: Wanted) -> FrameSource:
    av, accel = load_av(), accel_of(wanted.decoding)
    try:
        container = open_bytes(response.read1, **accel)
    except (av.error.FFmpegError, OSError, ValueError, http.client.HTTPException) as error:
        raise InputError(
            f"no video in {shown} ({getattr(error, 'strerror', None) or error}); name the path of a video stream"
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"no video in {shown}; name the path of a video stream")
    return WebStream(uri, container, response, wanted)


def _lost(uri: str, reason: str) -> RunError:
    return CameraLost(
        f"the connection to camera {uri} is lost ({reason}); check the camera and the network, and run again"
    )


class WebStream(LiveStream):
    """A stream of a container format over HTTP."""

    def __init__(self, uri: str, container: Any, response: http.client.HTTPResponse, wanted: Wanted):
        super().__init__(uri, container, wanted)
        self._response = response

    def gone(self, reason: str) -> RunError:
        return _lost(self.uri, reason)

    def close(self) -> None:
        super().close()
        self._response.close()


class WebCamera(FrameSource):
    """JPEGs as parts of a body. Damaged ones are left out and counted; where the body ends, announced or not, it is lost."""

    def __init__(self, uri: str, response: http.client.HTTPResponse, wanted: Wanted):
        super().__init__(uri, live=True, fps=None)
        self._response = response
        self._named = Named(self.uri, None, wanted)

    def one_pass(self) -> Iterator[Picture]:
        av, decode = load_av(), JpegDecoder()
        try:
            for part in parts_of(self._response):
                frame = decode(av.Packet(part))
                if frame is None:
                    self.damaged += 1
                else:
                    self._named.settle("mjpeg", frame)
                    self.decoder = self._named.name
                    yield Picture(self._named.rgb(frame))
            raise _lost(self.uri, "it ended the stream")
        except TimeoutError as error:
            raise CameraStalled(f"camera {self.uri} delivers no more frames; check it and run again") from error
        except EOFError as error:
            raise _lost(self.uri, "it ended the stream") from error
        except (BadPart, OSError, http.client.HTTPException) as error:
            raise _lost(self.uri, getattr(error, "strerror", None) or str(error) or type(error).__name__) from error

    def close(self) -> None:
        super().close()
        self._response.close()
