"""Video files, through PyAV: every whole frame in order and at its time, or paced like a camera."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.data import spread
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import METADATA, HeldBack, ToRgb, load_av, video_stream
from edgeprune.runtime.cameras.source import FrameSource, Picture, StreamTruncated
from edgeprune.runtime.cameras.times import TS_DISCONTINUOUS, PresentationClock
from edgeprune.runtime.cameras.whole import WholeFrames

SLOW_S = 5  # between frames: a time-lapse, whatever its header says


def open_video(uri: str, wanted: Wanted) -> FrameSource:
    """Opens a video file.

    Raises:
        InputError: it can't be read, isn't a video, or was cut off before its index (MP4 files keep it at one end).
    """
    with _open(uri) as container:
        stream = video_stream(container, strict=True)
        packets = list(islice(_demux(uri, container, stream), 4))
        first = packets[0]
        rate = _rate(stream, packets)
        if wanted.realtime and not rate and first.pts is None:
            raise InputError(f"{uri} names no frame rate to play it at; leave --realtime out")
        strict = stream.codec_context.codec.intra_only and _decodes(first)
    fps = float(rate) if rate else None
    return VideoFile(uri, wanted, fps=fps, strict=strict)


def _count(path: str) -> int:
    """The packets of a file: a frame comes of each, where none is damaged. Nothing is decoded."""
    count = 0
    with _open(path) as container, suppress(load_av().error.FFmpegError, OSError):
        for packet in container.demux(container.streams.video[0]):
            count += packet.size > 0
    return count


def _demux(uri: str, container: Any, stream: Any) -> Iterator[Any]:
    """The packets of a stream: one at least, an empty one at the end.

    Raises:
        InputError: they can't be read.
    """
    try:
        yield from container.demux(stream)
    except (load_av().error.FFmpegError, OSError) as error:
        raise InputError(f"cannot read {uri} as a video ({error.strerror}); copy or record it again") from error


def _rate(stream: Any, packets: list[Any]) -> Fraction | None:
    """Frames a second: what the file says, but where its first frames are SLOW_S apart, of those."""
    times_s = sorted(packet.pts * packet.time_base for packet in packets if packet.pts is not None)
    steps_s = [after - before for before, after in pairwise(times_s) if after > before]
    if steps_s and min(steps_s) >= SLOW_S:
        return Fraction(1, min(steps_s))
    rate: Fraction | None = stream.average_rate
    return rate


def _decodes(packet: Any) -> bool:
    av = load_av()
    try:
        packet.decode()
    except av.error.FFmpegError:
        return False
    return True


def _open(path: str) -> Any:
    av = load_av()
    try:
        # `file:`, as FFmpeg takes what stands before a colon for a protocol; from `file:` a playlist reaches files alone
        container = av.open(f"file:{path}", **METADATA)
    except (av.error.FFmpegError, OSError, UnicodeError) as error:
        raise InputError(
            f"cannot read {path} as a video ({getattr(error, 'strerror', error)}); an MP4 that was cut off before its "
            "index can't be read at all: copy or record it again"
        ) from error
    if not container.streams.video:
        container.close()
        raise InputError(f"no video in {path}; name a video file, a folder of images or a camera")
    return container


class VideoFile(FrameSource):
    """Every whole frame of a file. Where it is cut off or damaged: those, then StreamTruncated.

    A transport stream (MPEG-TS) announces no end and is made to be joined in mid-stream, cut and put together again:
    there what is damaged is left out and counted, but is no failure.

    wanted: with `spread`, so many of the frames, named by their number in the file.
    strict: every error ends the decoding of its frame. For MJPEG, where FFmpeg conceals without a flag; not where
        the first frame has errors already: many webcams write JPEGs that lack their last bits.
    """

    def __init__(self, uri: str, wanted: Wanted, *, fps: float | None, strict: bool):
        super().__init__(uri, live=wanted.realtime, fps=fps, loop=wanted.loop, paced=wanted.realtime)
        self._path = self.uri = uri  # a path, in which nothing is secret
        self._strict = strict
        self._picked = frozenset(spread(_count(uri), wanted.spread)) if wanted.spread else None

    def one_pass(self) -> Iterator[Picture]:
        av = load_av()
        with _open(self._path) as container:
            stream = video_stream(container, strict=self._strict)
            shown, seen = _Shown(container, stream, self._picked), _Seen()
            whole = WholeFrames(references=not stream.codec_context.codec.intra_only, hold=True)
            held = HeldBack(stream)
            transport = bool(container.format.flags & TS_DISCONTINUOUS)
            before = self.damaged
            try:
                for packet in container.demux(stream):
                    seen.add(packet)
                    yield from shown.pictures(whole.take(self._decode(packet, held, whole, transport)))
                    self.damaged = before + whole.damaged
            except (av.error.FFmpegError, OSError):
                whole.lose()
            yield from shown.pictures(whole.end())
            self.damaged = before + whole.damaged
            short = seen.short_of(container, stream) and not _riff_ends_well(self._path)
        if not shown.frames:
            raise InputError(f"no frame of {self.uri} can be decoded; copy or record it again")
        if short or (whole.damaged and not transport):
            left_out = f"; {whole.damaged} damaged ones were left out" if whole.damaged else ""
            raise StreamTruncated(
                f"{self.uri} is cut off or damaged: {shown.frames} frames could be decoded{left_out}; "
                "copy or record the file again for the rest"
            )

    def _decode(self, packet: Any, held: HeldBack, whole: WholeFrames, transport: bool) -> list[Any]:
        """A packet's frames; none where it is cut off (in a transport stream the flag says only that one was lost)."""
        frames: list[Any] = []
        try:
            frames += held.before(packet)
            if not packet.is_corrupt or transport:
                return frames + packet.decode()
        except load_av().error.FFmpegError:
            pass
        whole.lose()
        return frames


class _Shown:
    """PyAV's whole frames of one pass -> pictures.

    Attributes:
        frames: how many there were until now, those included that were not picked.
    """

    def __init__(self, container: Any, stream: Any, picked: frozenset[int] | None):
        self.frames = 0
        self._to_rgb, self._clock, self._picked = ToRgb(stream), PresentationClock(container, stream), picked

    def pictures(self, frames: Iterable[Any]) -> Iterator[Picture]:
        """Of the frames that are picked, or of all."""
        for frame in frames:
            number, shown_s = self.frames, self._clock(frame)
            self.frames += 1
            if self._picked is None:
                yield Picture(self._to_rgb(frame), presentation_s=shown_s)
            elif number in self._picked:
                yield Picture(self._to_rgb(frame), f"{number:08d}", presentation_s=shown_s)


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
        """Whether the file ends before what its header announces."""
        if stream.frames:
            return self.packets < stream.frames and self.end_s + 1e-6 < _announced_s(container, stream)
        if len(container.streams) > 1 or not container.duration:  # another stream may be the longer one
            return False
        announced_s = ((container.start_time or 0) + container.duration) / 1e6
        three_frames_s = 3 / float(stream.average_rate or 15)
        return bool(self.end_s + three_frames_s < announced_s)


def _riff_ends_well(path: str) -> bool:
    """Whether it is an AVI that is as long as it says: then frames that lack at its end repeat the last."""
    with open(path, "rb") as file:
        header = file.read(12)
    size = int.from_bytes(header[4:8], "little") + 8
    return header[:4] == b"RIFF" and header[8:] == b"AVI " and size == Path(path).stat().st_size // 2 * 2


def _announced_s(container: Any, stream: Any) -> float:
    """Where the header of a file that counts its frames says that the last one ends.

    AVI counts those too that repeat the one before and take no packet, each of one tick. MP4 counts those that are
    outside of its edit list (a lossless trim leaves them in the file); the duration does not.
    """
    if container.format.name == "avi" or stream.duration is None:
        return float(stream.frames / (stream.average_rate or 15))
    return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
