"""Video files, through PyAV: every frame in order, or paced like a camera."""

from collections.abc import Iterator
from typing import Any

from edgeprune.camera.pyav import ToRgb, load_av
from edgeprune.camera.source import FrameSource, Picture, StreamTruncated
from edgeprune.errors import InputError


def open_video(uri: str, realtime: bool, loop: bool) -> FrameSource:
    """Opens a video file.

    Raises:
        InputError: it can't be read, isn't a video, or was cut off before its index (MP4 files keep it at one end).
    """
    with _open(uri) as container:
        rate = container.streams.video[0].average_rate
    if realtime and not rate:
        raise InputError(f"{uri} names no frame rate to play it at; leave --realtime out")
    return VideoFile(uri, fps=float(rate) if rate else None, realtime=realtime, loop=loop)


def _open(uri: str) -> Any:
    av = load_av()
    try:
        container = av.open(uri)
    except (av.error.FFmpegError, OSError) as error:
        raise InputError(
            f"cannot read {uri} as a video ({error.strerror}); an MP4 that was cut off before its index can't be read "
            "at all: copy or record it again"
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"no video in {uri}; name a video file, a folder of images or a camera")
    return container


class VideoFile(FrameSource):
    """Every frame of a file. Where it is cut off or damaged: every whole frame, then StreamTruncated."""

    def __init__(self, uri: str, *, fps: float | None, realtime: bool, loop: bool):
        super().__init__(uri, live=realtime, fps=fps, loop=loop, paced=realtime)

    def one_pass(self) -> Iterator[Picture]:
        av = load_av()
        to_rgb = ToRgb()
        damaged = delivered = 0
        with _open(self.uri) as container:
            stream = container.streams.video[0]
            seen = _Seen()
            try:
                for packet in container.demux(stream):
                    seen.add(packet)
                    if packet.is_corrupt:  # cut off in the middle of it
                        damaged += 1
                        continue
                    try:
                        frames = packet.decode()
                    except av.error.FFmpegError:
                        damaged += 1
                        continue
                    for frame in frames:
                        if frame.is_corrupt:  # concealed: parts of it are invented
                            damaged += 1
                            continue
                        delivered += 1
                        yield Picture(to_rgb(frame))
            except (av.error.FFmpegError, OSError):
                damaged += 1
            short = seen.short_of(container, stream)
        if not delivered:
            raise InputError(f"no frame of {self.uri} can be decoded; copy or record it again")
        if damaged or short:
            left_out = f"; {damaged} damaged ones were left out" if damaged else ""
            raise StreamTruncated(
                f"{self.uri} is cut off or damaged: {delivered} frames could be decoded{left_out}; "
                "copy or record the file again for the rest"
            )


class _Seen:
    """How much of a file's announced content came out of it."""

    def __init__(self) -> None:
        self.packets = 0
        self.end_s = 0.0

    def add(self, packet: Any) -> None:
        if packet.size and not packet.is_corrupt:
            self.packets += 1
            if packet.pts is not None:
                self.end_s = max(self.end_s, float((packet.pts + (packet.duration or 0)) * packet.time_base))

    def short_of(self, container: Any, stream: Any) -> bool:
        """Whether the file ends before what its header announces: by frames (MP4), else by duration (Matroska)."""
        if stream.frames:
            return bool(self.packets < stream.frames)
        if len(container.streams) > 1 or not container.duration:  # another stream may be the longer one
            return False
        announced_s = ((container.start_time or 0) + container.duration) / 1e6
        three_frames_s = 3 / float(stream.average_rate or 15)
        return bool(self.end_s + three_frames_s < announced_s)
