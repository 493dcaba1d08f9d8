"""GStreamer's Python bindings, and a Jetson's decoder behind them: what PyAV takes from a file or a camera goes through
`appsrc ! h264parse ! nvv4l2decoder ! nvvidconv ! appsink`.

The elements and what they take: Jetson Linux Developer Guide, "Accelerated GStreamer" (nvv4l2decoder after h264parse or
h265parse; nvvidconv from NVMM to BGRx in memory, scaled on the way); `gst-inspect-1.0 nvv4l2decoder` (byte streams, by access
units); appsrc and appsink as gst-plugins-base documents them.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras.pyav import load_av

STANDARD_OUTPUT, STANDARD_ERROR = 1, 2
# codec -> its caps, its parser, FFmpeg's filter that makes a byte stream of what MP4 and Matroska hold
DECODED = {
    "h264": ("video/x-h264", "h264parse", "h264_mp4toannexb"),
    "hevc": ("video/x-h265", "h265parse", "hevc_mp4toannexb"),
}
PACKAGES = {  # element -> the package that brings it
    "nvarguscamerasrc": "nvidia-l4t-gstreamer",
    "nvv4l2decoder": "nvidia-l4t-gstreamer",
    "nvvidconv": "nvidia-l4t-gstreamer",
    "h264parse": "gstreamer1.0-plugins-bad",
    "appsrc": "gstreamer1.0-plugins-base",
    "appsink": "gstreamer1.0-plugins-base",
}
OF_DECODER = ("appsrc", "h264parse", "nvv4l2decoder", "nvvidconv", "appsink")
EPOCH_NS = 10**12  # GStreamer's times are not negative; those of a file may be
WAIT_S = 0.05  # for the frame of a packet, until it is known that the decoder holds more back
ASKED_ANEW = 100  # packets after which that is found out anew: a decoder that was late once may not be any more
MOST_SILENT = 32  # packets between two frames: H.264 lets it hold 16 (A.3.1), and the pipeline has some of its own
END_S = 2.0  # for the frames that it still holds at the end


class HardwareFailed(Exception):
    """A hardware decoder gives no frames, or no more; the reason."""


def load_gst() -> Any:
    """GStreamer's Python bindings, initialised.

    Raises:
        InputError: they aren't there, with the import's own reason.
    """
    try:
        import gi

        gi.require_version("Gst", "1.0")
        from gi.repository import Gst
    except (ImportError, ValueError) as error:
        raise InputError(
            f"CSI cameras and a Jetson's decoder need GStreamer's Python bindings, which cannot be imported ({error}); "
            "on a Jetson type: sudo apt install python3-gi gir1.2-gstreamer-1.0, and make the environment with "
            "--system-site-packages"
        ) from error
    keep_output_ours()
    Gst.init(None)
    return Gst


def keep_output_ours() -> None:
    """What libraries print from C goes to standard error from now on, and standard output is Python's alone.

    nvarguscamerasrc prints on descriptor 1, from threads of its own and whenever it likes (`GST_ARGUS: Creating output
    stream`), which would stand amid our JSON. So descriptor 1 becomes a second name of standard error, and `sys.stdout`
    writes to what it was. For the rest of the process: a camera that hangs prints after it was closed.
    """
    try:
        ours = sys.stdout is not None and sys.stdout.fileno() == STANDARD_OUTPUT
    except (OSError, ValueError):  # somebody's own stream, without a descriptor
        ours = False
    if not ours:
        return
    sys.stdout.flush()
    kept = os.dup(STANDARD_OUTPUT)
    os.dup2(STANDARD_ERROR, STANDARD_OUTPUT)
    sys.stdout = os.fdopen(
        kept, "w", buffering=1 if sys.stdout.isatty() else -1, encoding=sys.stdout.encoding, errors=sys.stdout.errors
    )


def missing_elements(gst: Any, elements: tuple[str, ...]) -> str | None:
    """Which of them this GStreamer lacks, and what to type; None where they are all there."""
    lacking = [name for name in elements if gst.ElementFactory.find(name) is None]
    if not lacking:
        return None
    packages = " ".join(dict.fromkeys(PACKAGES[name] for name in lacking))
    return f"GStreamer has no {', '.join(lacking)}; on a Jetson type: sudo apt install {packages}"


def missing_decoder() -> str | None:
    """Why a Jetson's decoder can't be used here; None where it can."""
    try:
        import gi  # noqa: F401
    except ImportError as error:
        return f"GStreamer's Python bindings cannot be imported: {error}"
    try:
        return missing_elements(load_gst(), OF_DECODER)
    except InputError as error:
        return str(error)


@contextmanager
def mapped(gst: Any, sample: Any) -> Iterator[np.ndarray]:
    """A sample of an appsink that gives BGRx, as bgrx_HW4 in GStreamer's own memory.

    Raises:
        HardwareFailed: it can't be read.
    """
    shape = sample.get_caps().get_structure(0)
    height, width = shape.get_value("height"), shape.get_value("width")
    buffer = sample.get_buffer()
    readable, memory = buffer.map(gst.MapFlags.READ)
    if not readable:
        raise HardwareFailed("a frame's memory cannot be read")
    try:
        yield np.frombuffer(memory.data, np.uint8).reshape(height, -1, 4)[:, :width]
    finally:
        buffer.unmap(memory)


class JetsonDecoder:
    """PyAV's packets -> PyAV's frames, BGR, by nvv4l2decoder; as PyAV's decoders, those of a packet may come with later ones.

    Args:
        stream: PyAV's, of a codec in DECODED.
        size: (width, height) that nvvidconv scales to; None: as they are.

    Raises:
        HardwareFailed: the pipeline does not start.
    """

    def __init__(self, stream: Any, size: tuple[int, int] | None = None):
        import av.bitstream

        self._gst = load_gst()
        caps, parser, to_bytes = DECODED[stream.codec_context.name]
        self._filter = av.bitstream.BitStreamFilterContext(to_bytes, stream)
        self._time_base = stream.time_base
        small = f",width={size[0]},height={size[1]}" if size else ""
        description = (
            f"appsrc name=source format=time caps={caps},stream-format=byte-stream,alignment=au ! {parser} ! nvv4l2decoder ! "
            f"nvvidconv ! video/x-raw,format=BGRx{small} ! appsink name=sink sync=false"
        )
        try:
            self._pipeline = self._gst.parse_launch(description)
        except Exception as error:  # GLib.Error, whose class lives in the bindings
            raise HardwareFailed(f"{error}; to look closer: gst-launch-1.0 {description}") from error
        self._source, self._sink = self._pipeline.get_by_name("source"), self._pipeline.get_by_name("sink")
        if self._pipeline.set_state(self._gst.State.PLAYING) == self._gst.StateChangeReturn.FAILURE:
            self.close()
            raise HardwareFailed(f"it does not start; to look closer: gst-launch-1.0 {description}")
        self._packets = 0
        # packets whose frame has not come, if they have one; how many it holds back by nature
        self._behind = self._held = 0
        # packets since the last frame; None before the first, for which `Decoder` waits
        self._silent: int | None = None
        self._last_ns = 0
        self._keys: set[int] = set()  # times of the key frames that are still inside

    def decode(self, packet: Any) -> list[Any]:
        """The frames that are ready; at the end, an empty packet, all that it still holds.

        Raises:
            HardwareFailed: see there.
        """
        ended = not packet.size
        for part in self._filter.filter(None if ended else _copy(packet)):
            self._push(part)
        if ended:
            self._source.emit("end-of-stream")
        self._packets += 1
        self._silent = None if self._silent is None else self._silent + 1
        if self._packets % ASKED_ANEW == 0:
            self._held = 0
        frames = []
        while True:
            late = ended or self._behind > self._held
            sample = self._sink.emit("try-pull-sample", round((END_S if ended else WAIT_S) * 1e9) if late else 0)
            if sample is None:
                break
            self._behind -= 1
            self._silent = 0
            frames.append(self._frame(sample))
        self._raise_error()
        if late:
            self._held = self._behind
        if self._silent is not None and self._silent > MOST_SILENT and not ended:
            raise HardwareFailed(f"no frame of the last {self._silent} packets came out of it")
        return frames

    def _push(self, packet: Any) -> None:
        ticks = packet.dts if packet.pts is None else packet.pts
        shown_ns = self._last_ns + 1 if ticks is None else EPOCH_NS + round(ticks * self._time_base * 10**9)
        self._last_ns = shown_ns
        buffer = self._gst.Buffer.new_wrapped(bytes(packet))
        buffer.pts = shown_ns
        if packet.is_keyframe:
            self._keys.add(shown_ns)
        self._source.emit("push-buffer", buffer)
        self._behind += 1

    def _frame(self, sample: Any) -> Any:
        shown_ns = sample.get_buffer().pts
        with mapped(self._gst, sample) as bgrx_HW4:
            frame = load_av().VideoFrame.from_ndarray(np.ascontiguousarray(bgrx_HW4), format="bgra")  # it copies
        frame.time_base = self._time_base
        frame.pts = round((shown_ns - EPOCH_NS) / 10**9 / self._time_base)
        frame.key_frame = shown_ns in self._keys
        self._keys.discard(shown_ns)
        return frame

    def _raise_error(self) -> None:
        error = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
        if error is not None:
            raise HardwareFailed(str(error.parse_error()[0]))

    def close(self) -> None:
        """Gives the decoder back."""
        self._pipeline.set_state(self._gst.State.NULL)


def _copy(packet: Any) -> Any:
    """A packet for a filter, which takes what it is given: who asks the packet for its time later finds none (PyAV 18)."""
    copied = load_av().Packet(bytes(packet))
    copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
    copied.is_keyframe = packet.is_keyframe
    return copied
