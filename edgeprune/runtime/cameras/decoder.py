"""The packets of a stream -> frames, by hardware where it is wanted and gives any; it says which it was."""

import logging
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras.decoding import AUTO, SOFTWARE, Decoding, Device, find_device
from edgeprune.runtime.cameras.gstreamer import DECODED, HardwareFailed, JetsonDecoder
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import ToRgb, inside, load_av

logger = logging.getLogger(__name__)

MOST_WAITING = 90  # packets without a first frame, until hardware is given up: three seconds


def without_hardware(decoding: Decoding, uri: str, reason: str) -> Decoding:
    """The same in software.

    Raises:
        InputError: hardware was named: nobody who did gets software in silence.
    """
    if decoding.by not in (AUTO, SOFTWARE):
        raise InputError(
            f"--decode {decoding.by} does not decode {uri} ({reason}); auto takes software where hardware can't, software "
            "takes it at once"
        )
    return decoding._replace(by=SOFTWARE)


class Named:
    """Which decoder ran, once there is a frame; and the frame's colours.

    Args:
        uri: as messages show it.
        stream: PyAV's, for the shape of its pixels, or None.
        said: the name of the pass before: it is not said again.

    Attributes:
        name: `h264 (software, 1 thread)`, `h264 via cuda`, with the sizes where frames are scaled; None until there is a frame.
    """

    def __init__(self, uri: str, stream: Any, wanted: Wanted, said: str | None = None):
        self.name: str | None = None
        self._uri, self._said, self._decoding = uri, said, wanted.decoding
        self._within = wanted.within if wanted.decoding.scaled else None
        self._to_rgb = ToRgb(stream, self._within)

    def settle(
        self, codec: str, frame: Any, hardware: str | None = None, stored: tuple[int, int] | None = None
    ) -> None:
        """At the first frame.

        Args:
            hardware: that it came from; None: software.
            stored: (width, height) of a frame that hardware has scaled already.

        Raises:
            InputError: hardware was named, and this is software.
        """
        if self.name is not None:
            return
        if hardware is None:
            without_hardware(self._decoding, self._uri, f"{codec} is decoded by software")
        name = f"{codec} via {hardware}" if hardware else f"{codec} (software, 1 thread)"
        if self._within:
            width, height = stored or (frame.width, frame.height)
            to = self._to_rgb.scaled(frame) or (frame.width, frame.height)
            name += (
                f", {width}x{height} scaled to {to[0]}x{to[1]}"
                if to != (width, height)
                else ", not scaled: it is small"
            )
        self.name = name
        if name != self._said and (hardware or self._within):
            logger.info(f"{self._uri}: {name}")

    def rgb(self, frame: Any) -> np.ndarray:
        """image_HW3 of a frame, as a player shows it; scaled where that is wanted."""
        return self._to_rgb(frame)


class Decoder(Named):
    """One per pass or connection. Software is PyAV's own decoder of the stream, hardware is that too (with `accel_of`), or
    GStreamer's.

    Raises:
        InputError: hardware was named that is not here, or does not start.
    """

    def __init__(self, uri: str, stream: Any, wanted: Wanted, said: str | None = None):
        super().__init__(uri, stream, wanted, said)
        self._stream = stream
        self._device: Device | None = find_device(wanted.decoding)
        self._codec = stream.codec_context
        self._waiting = 0
        self._jetson: JetsonDecoder | None = None
        if self._device and not self._device.accel:
            self._begin_gstreamer()

    def _begin_gstreamer(self) -> None:
        """Software where GStreamer has nothing for the codec, or for how the frames are to be shown."""
        codec, pixel = self._codec, self._stream.sample_aspect_ratio
        if codec.name not in DECODED or (pixel and pixel != 1):
            self._device = None
            return
        size = inside(self._within, codec.width, codec.height) if self._within and codec.width else None
        try:
            self._jetson = JetsonDecoder(self._stream, size)
        except HardwareFailed as error:
            self.fall_back(str(error))

    def fall_back(self, reason: str) -> None:
        """From the next packet on software decodes.

        Raises:
            InputError: hardware was named.
        """
        assert self._device is not None
        self._decoding = without_hardware(self._decoding, self._uri, reason)
        logger.info(f"{self._uri}: {self._device.name} does not decode it ({reason}); software does")
        self.close()
        self._device = None
        # PyAV's has the device for good
        fresh = load_av().CodecContext.create(self._codec.name, "r")
        fresh.extradata, fresh.options, fresh.thread_type = self._codec.extradata, self._codec.options, "NONE"
        self._codec = fresh

    @property
    def hardware(self) -> bool:
        """Whether hardware decodes, or may."""
        return self._device is not None

    def decode(self, packet: Any) -> list[Any]:
        """The frames of a packet; of an empty one, the end, those that were held back.

        Raises:
            FFmpegError: it is damaged.
            HardwareFailed: hardware gives no first frame, or GStreamer no more.
            InputError: hardware was named, and does not decode this.
        """
        if self.name is None and self._device:
            self._waiting += 1
            if self._waiting > MOST_WAITING:
                raise HardwareFailed(f"no frame of {MOST_WAITING} packets")
        frames = self._frames_of(packet)
        if frames and self.name is None:
            if self._device and not self._device.of_frame(frames[0]):  # FFmpeg has fallen back
                self._device = None
            stored = (self._codec.width, self._codec.height) if self._jetson else None
            self.settle(self._codec.name, frames[0], self._device.name if self._device else None, stored)
        return frames

    def _frames_of(self, packet: Any) -> list[Any]:
        error = load_av().error
        try:
            # the empty packet itself, not None: frames have the time base of the packet that they came with
            frames: list[Any] = self._jetson.decode(packet) if self._jetson else self._codec.decode(packet)
        except error.InvalidDataError:  # what came is damaged, whoever decodes it
            raise
        except error.FFmpegError as failure:
            if self._device and self.name is None:
                raise HardwareFailed(failure.strerror or type(failure).__name__) from failure
            raise
        return frames

    def close(self) -> None:
        """Gives the hardware back; PyAV's goes with its container."""
        if self._jetson:
            self._jetson.close()
            self._jetson = None
