"""JPEGs of a camera, one by one: damaged ones are noticed, and those of a camera that never writes them whole are taken."""

import errno
from typing import Any

from edgeprune.runtime.cameras.kind import AS_IT_COMES, Wanted
from edgeprune.runtime.cameras.live import LiveStream
from edgeprune.runtime.cameras.pyav import MAX_PIXELS, load_av

NEVER_WHOLE = (
    3  # so many in a row from the beginning on: the camera's JPEGs are all like that, such as without their last bits
)


class JpegDecoder:
    """PyAV's packet of a JPEG -> its frame, or None where it is damaged.

    FFmpeg conceals what is damaged in a JPEG without a flag, unless it is to raise at every error. But many webcams write JPEGs
    that have errors from the first to the last: then what can be decoded is taken.
    """

    def __init__(self) -> None:
        self._codec = self._open(strict=True)
        self._refused: int | None = 0  # from the beginning on; None once it is known how this camera writes

    def _open(self, strict: bool) -> Any:
        codec = load_av().CodecContext.create("mjpeg", "r")
        codec.thread_type = "NONE"
        codec.options = {"max_pixels": str(MAX_PIXELS), **({"err_detect": "explode"} if strict else {})}
        return codec

    def __call__(self, packet: Any) -> Any | None:
        frame = self._decoded(packet)
        if self._refused is None or frame is not None:
            self._refused = None
            return frame
        self._refused += 1
        if self._refused == NEVER_WHOLE:
            self._codec, self._refused = self._open(strict=False), None
            return self._decoded(packet)
        return None

    def _decoded(self, packet: Any) -> Any | None:
        if not packet.size:  # PyAV's sign of the end
            return None
        try:
            frames = self._codec.decode(packet)
        except (load_av().error.FFmpegError, ValueError):
            return None
        return frames[-1] if frames else None


class LiveJpegs(LiveStream):
    """A live stream whose frames, where they are JPEGs, are held to be whole."""

    def __init__(self, uri: str, container: Any, wanted: Wanted = AS_IT_COMES):
        super().__init__(uri, container, wanted)
        self._jpegs = JpegDecoder() if self._stream.codec_context.name == "mjpeg" else None

    def decode(self, packet: Any) -> list[Any]:
        if self._jpegs is None:
            return super().decode(packet)
        if not packet.size:  # the end
            return []
        frame = self._jpegs(packet)
        if frame is None:
            raise load_av().error.InvalidDataError(errno.EINVAL, "a damaged JPEG")
        self._decoder.settle("mjpeg", frame)
        return [frame]
