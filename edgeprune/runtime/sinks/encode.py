"""Video out: fragmented MP4 through PyAV, with encoders that are free of the GPL and fast on a CPU."""

from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.outputs import refuse_remains, with_suffix
from edgeprune.runtime.cameras.pyav import load_av
from edgeprune.runtime.sinks.partial import PartialFile

# The first that PyAV's FFmpeg offers. x264 and x265 are in its wheels too, under the GPL: never by default.
# Measured on 768x432 street frames, two x86 cores, PyAV 18.1, conversion from RGB included: VP9 3.3 ms a frame,
# MPEG-4 1.3 ms (but no browser plays it); SVT-AV1 5 ms, and it prints to the terminal.
ENCODERS: dict[str, dict[str, str]] = {
    "libopenh264": {},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "lag-in-frames": "0"},
    "mpeg4": {},
}
THREADS = 2
BITS_PER_PIXEL = 0.3
TICKS_PER_S = 60000  # holds 15, 25, 30, 60 and 29.97 frames a second exactly, and fits MPEG-4's 16 bits
SLOWEST_FPS, FASTEST_FPS = 0.2, 240.0  # what a film is written at; the rates that some files name are none
# Fragments of half a second at most, and one for each group of pictures, of a second: what is on the disk can be played,
# whatever happens next.
FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof", "frag_duration": "500000"}
BOXES = (b"moof", b"mfra")  # of a fragment, and of the index behind the last (ISO/IEC 14496-12, 8.8)


def check_video_name(path: Path) -> None:
    """Refuses what can't be the name of a video, before anything is begun.

    Raises:
        InputError: it is a folder, isn't an .mp4, or is what a failed run kept.
    """
    if path.name and path.is_dir():
        raise InputError(f"{path} is a folder; name a video file, such as {path / 'overlay.mp4'}")
    if path.suffix != ".mp4":
        raise InputError(f"video is written as MP4, not {path.name!r}; type {with_suffix(path, '.mp4', 'overlay')}")
    refuse_remains(path)


class VideoWriter:
    """Writes frames to `partial_path(path)` (numbered where it is taken); `close()` gives the file its final name.

    Attributes:
        encoder: the encoder that is used.
        partial: where the file lies until `close()`; after a failure it stays there, readable.
        kept: where it lies now; None where there is none, or none any more.

    Raises:
        InputError: as `check_video_name`, PyAV is missing, or the folder can't be written to.
    """

    def __init__(self, path: Path, fps: float, height: int, width: int):
        """Frames are (height, width, 3), in pixels; an odd last row or column is left out (4:2:0 halves the colour).

        fps: nominal; that of frames without times.
        """
        check_video_name(path)
        if min(height, width) < 2:
            raise InputError(f"a picture of {height}x{width} pixels makes no video; 2x2 or more are expected")
        av = load_av()
        fps = min(max(fps, SLOWEST_FPS), FASTEST_FPS)
        self.path = path
        self.encoder = _first_encoder(av)
        self._height, self._width = height // 2 * 2, width // 2 * 2
        self._encoding_error: type[Exception] = av.error.FFmpegError
        self._video_frame: Callable[..., Any] = av.VideoFrame.from_ndarray
        self._key_frame = av.video.frame.PictureType.I
        self._output = PartialFile(path, "a video")
        self.partial = self._output.partial
        self._disk = _Disk(self._output.file)
        self._container = av.open(self._disk, "w", format="mp4", options=FRAGMENTED)
        rate = Fraction(fps).limit_denominator(1001)
        self._stream = self._container.add_stream(self.encoder, rate=rate, options=ENCODERS[self.encoder])
        self._stream.width, self._stream.height, self._stream.pix_fmt = self._width, self._height, "yuv420p"
        self._stream.bit_rate = int(BITS_PER_PIXEL * self._height * self._width * fps)
        codec = self._stream.codec_context
        codec.gop_size, codec.thread_count, codec.time_base = max(1, round(fps)), THREADS, Fraction(1, TICKS_PER_S)
        self._ticks_per_frame = TICKS_PER_S / rate
        self._next_tick = 0
        self._next_key_tick = 0
        self._first_s: float | None = None
        self._closed = False

    @property
    def kept(self) -> Path | None:
        """Where the video lies now; None where there is none any more."""
        return self._output.kept

    @property
    def size(self) -> int:
        """Bytes of the file until now."""
        return self._disk.size

    def fileno(self) -> int:
        """The descriptor of the open file."""
        return self._disk.file.fileno()

    def write(self, image_HW3: np.ndarray, time_s: float | None = None) -> None:
        """Appends image_HW3 (uint8 RGB, height x width).

        Frames follow each other at `fps`; with time_s, on any clock, each is shown as long after the first as it was
        there. A second after a key frame comes the next, however many frames that is.

        Raises:
            RunError: the disk is full; what was recorded before stays readable in `partial`.
        """
        frame = self._video_frame(np.ascontiguousarray(image_HW3[: self._height, : self._width]), format="rgb24")
        tick = self._next_tick
        if time_s is not None:
            if self._first_s is None:
                self._first_s = time_s
            tick = max(tick, round((time_s - self._first_s) * TICKS_PER_S))
            self._next_tick = tick + 1
        else:
            self._next_tick = round(tick + self._ticks_per_frame)
        if tick >= self._next_key_tick:
            frame.pict_type = self._key_frame
            self._next_key_tick = tick + TICKS_PER_S
        frame.pts, frame.time_base = tick, Fraction(1, TICKS_PER_S)
        self._put(lambda: self._container.mux(self._stream.encode(frame)))

    def _put(self, action: Callable[[], None]) -> None:
        try:
            action()
        except (OSError, self._encoding_error) as error:
            self._release()
            kept = f"what was recorded is in {self.partial}" if self._disk.fragments else "nothing of it was recorded"
            raise RunError(
                f"cannot write on to {self.path} ({error}); {kept}; free some space or name another folder, and run again"
            ) from error

    def _release(self) -> None:
        """Closes the container and the file, whatever the disk says; a header alone is no video, and goes."""
        self._closed = True
        for close in (self._container.close, self._disk.file.close):
            with suppress(OSError, self._encoding_error):
                close()
        if not self._disk.fragments:
            self._output.remove()

    def _end(self, name: Path) -> None:
        if self._closed:
            return
        if not self._next_tick:
            self._release()
            return
        self._put(lambda: self._container.mux(self._stream.encode(None)))
        self._put(self._container.close)
        self._closed = True
        self._output.finish(name)

    def close(self) -> None:
        """Ends the video and renames it to its final name; does nothing after a failure or a second time.

        A video of no frames would be unreadable, so there is none.

        Raises:
            RunError: the disk is full, or it can't be renamed, or is gone.
        """
        self._end(self.path)

    def abandon(self) -> None:
        """Ends the video but leaves it under its partial name: the run that it shows failed. Without a frame it goes.

        Raises:
            RunError: the disk is full, or it is gone.
        """
        self._end(self.partial)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class _Disk:
    """The file as FFmpeg sees it: no seeking, and every write reaches the kernel or raises OSError.

    What a full disk cuts off is taken away again up to the last whole fragment: a part of one can make all of the file
    unreadable.

    Attributes:
        fragments: how many whole ones the file has.
        size: in bytes.
    """

    def __init__(self, file: FileIO):
        self.file = file
        self.fragments = 0
        self._in_fragment = False
        self.size = 0
        self._whole = 0  # bytes before what is being written

    def write(self, data: bytes) -> int:
        if data[4:8] in BOXES:  # FFmpeg hands the beginning of a fragment over as the beginning of a write
            self.fragments += self._in_fragment
            self._in_fragment = data[4:8] == b"moof"
            self._whole = self.size
        view = memoryview(data)
        try:
            while view:
                done = self.file.write(view)
                self.size += done
                view = view[done:]
        except OSError:
            self._in_fragment = False
            self.file.truncate(self._whole)
            self.file.seek(self._whole)
            raise
        return len(data)


def _first_encoder(av: Any) -> str:
    for name in ENCODERS:
        try:
            av.codec.Codec(name, "w")
        except ValueError:
            continue
        return name
    raise InputError(f"PyAV offers none of {', '.join(ENCODERS)}; pip install --force-reinstall 'edgeprune[video]'")
