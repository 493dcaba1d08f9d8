"""Video files, through PyAV: every whole frame in order and at its time, or paced like a camera."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, RunError
from edgeprune.data import spread
from edgeprune.runtime.cameras.decoder import Decoder, without_hardware
from edgeprune.runtime.cameras.decoding import GSTREAMER, Device, accel_of, find_device
from edgeprune.runtime.cameras.gstreamer import HardwareFailed
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import METADATA, HeldBack, display_matrix, load_av, video_stream
from edgeprune.runtime.cameras.source import FrameSource, Picture, StreamTruncated
from edgeprune.runtime.cameras.times import TS_DISCONTINUOUS, PresentationClock
from edgeprune.runtime.cameras.whole import WholeFrames

logger = logging.getLogger(__name__)

SLOW_S = 5  # between frames: a time-lapse, whatever its header says


def open_video(uri: str, wanted: Wanted) -> FrameSource:
    """Opens a video file.

    Raises:
        InputError: it can't be read, isn't a video, or was cut off before its index (MP4 files keep it at one end).
    """
    device = find_device(wanted.decoding)
    with _open(uri) as container:
        stream = video_stream(container, strict=True)
        packets = list(islice(_demux(uri, container, stream), 4))
        first = packets[0]
        rate = _rate(stream, packets)
        if wanted.realtime and not rate and first.pts is None:
            raise InputError(f"{uri} names no frame rate to play it at; leave --realtime out")
        strict = stream.codec_context.codec.intra_only and _decodes(first)
        if device and (reason := _of_software(device, stream, packets)):
            wanted = wanted._replace(decoding=without_hardware(wanted.decoding, uri, reason))
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


def _of_software(device: Device, stream: Any, packets: list[Any]) -> str | None:
    """Why hardware is not even tried; None where it is."""
    if stream.codec_context.codec.intra_only:
        return f"{stream.codec_context.name}: damage is noticed by software alone"
    if device.name != GSTREAMER:
        return None
    with suppress(
        load_av().error.FFmpegError
    ):  # PyAV's decoder knows how a file wants to be shown, GStreamer's does not
        for packet in packets:
            if any(display_matrix(frame) for frame in packet.decode()):
                return "its frames are turned"
    return None


def _open(path: str, **accel: Any) -> Any:
    av = load_av()
    try:
        # `file:`, as FFmpeg takes what stands before a colon for a protocol; from `file:` a playlist reaches files alone
        container = av.open(f"file:{path}", **METADATA, **accel)
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
        self._wanted = wanted

    def one_pass(self) -> Iterator[Picture]:
        before = self.damaged
        try:
            yield from self._by(self._wanted)
        except HardwareFailed as error:
            if self.decoder:
                raise RunError(
                    f"{self.decoder} failed in {self.uri} ({error}); run again with --decode software"
                ) from error
            software = without_hardware(self._wanted.decoding, self.uri, str(error))
            logger.info(f"{self.uri}: hardware does not decode it ({error}); software does")
            self._wanted = self._wanted._replace(decoding=software)
            self.damaged = before
            yield from self._by(self._wanted)

    def _by(self, wanted: Wanted) -> Iterator[Picture]:
        """A pass by the decoder that is wanted. Raises HardwareFailed where it gives no frames, or no more."""
        av = load_av()
        with _open(self._path, **accel_of(wanted.decoding)) as container:
            stream = video_stream(container, strict=self._strict)
            decoder = Decoder(self.uri, stream, wanted, said=self.decoder)
            shown, seen = _Shown(container, stream, self._picked, decoder), _Seen()
            whole = WholeFrames(references=not stream.codec_context.codec.intra_only, hold=True)
            transport = bool(container.format.flags & TS_DISCONTINUOUS)
            take = _Take(stream, decoder, whole, transport=transport)
            before = self.damaged
            try:
                for packet in container.demux(stream):
                    seen.add(packet)
                    frames = take(packet)
                    self.decoder = decoder.name
                    yield from shown.pictures(whole.take(frames))
                    self.damaged = before + whole.damaged
            except (av.error.FFmpegError, OSError):
                whole.lose()
            finally:
                decoder.close()
            yield from shown.pictures(whole.end())
            self.damaged = before + whole.damaged
            short = seen.short_of(container, stream) and not _riff_ends_well(self._path)
        if not shown.frames and decoder.hardware:
            raise HardwareFailed("it gave no frame")
        if not shown.frames:
            raise InputError(f"no frame of {self.uri} can be decoded; copy or record it again")
        if short or (whole.damaged and not transport):
            left_out = f"; {whole.damaged} damaged ones were left out" if whole.damaged else ""
            raise StreamTruncated(
                f"{self.uri} is cut off or damaged: {shown.frames} frames could be decoded{left_out}; "
                "copy or record the file again for the rest"
            )


class _Take:
    """A packet's frames; none where it is cut off.

    transport: of a transport stream that flag says only that a packet was lost.
    """

    def __init__(self, stream: Any, decoder: Decoder, whole: WholeFrames, *, transport: bool):
        self._decoder, self._whole, self._transport = decoder, whole, transport
        self._held = HeldBack(stream)

    def __call__(self, packet: Any) -> list[Any]:
        frames: list[Any] = []
        try:
            frames += self._held.before(packet)
            if not packet.is_corrupt or self._transport:
                return frames + self._decoder.decode(packet)
        except load_av().error.FFmpegError:
            pass
        self._whole.lose()
        return frames


class _Shown:
    """PyAV's whole frames of one pass -> pictures.

    Attributes:
        frames: how many there were until now, those included that were not picked.
    """

    def __init__(self, container: Any, stream: Any, picked: frozenset[int] | None, decoder: Decoder):
        self.frames = 0
        self._to_rgb, self._clock, self._picked = decoder.rgb, PresentationClock(container, stream), picked

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
