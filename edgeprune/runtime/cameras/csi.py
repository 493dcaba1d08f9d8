"""CSI cameras of a Jetson: csi://0?width=1280&height=720&fps=30&mode=2&flip=2, through JetPack's GStreamer.

Frames reach the CPU as large as the model's input needs them, scaled with their aspect kept by nvvidconv, a part of the chip of
its own: on a CPU that takes some 50 ms of a 1280x720 frame. `csi://0?scale=0` leaves them as the sensor gives them.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.masking import masked_uri
from edgeprune.runtime.cameras.gstreamer import HardwareFailed, load_gst, mapped, missing_elements
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.query import Option, read_options, split_uri
from edgeprune.runtime.cameras.source import CameraAway, CameraStalled, CameraUnplugged, FrameSource, Picture

OPTIONS = {
    "width": Option(1280, least=16, most=16384),
    "height": Option(720, least=16, most=16384),
    "fps": Option(30, least=1, most=1000),
    "mode": Option(-1, least=0, most=100),  # of the sensor; by default the one that suits the size
    "flip": Option(0, least=0, most=7),  # nvvidconv's flip-method: 2 is upside down
    "scale": Option(1, least=0, most=1),  # down to what the model needs; 0: frames stay as large as the sensor's
}
TURNING = (1, 3, 5, 7)  # flip-methods that exchange width and height (gst-inspect-1.0 nvvidconv)
ELEMENTS = ("nvarguscamerasrc", "nvvidconv", "appsink")
READ_TIMEOUT_S = 5.0  # without a frame for as long, the camera counts as stalled


def scaled(width: int, height: int, within: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of a frame of that size in an input of `within` (height, width), its aspect kept, never larger than it
    is. Even numbers: chroma has half the pixels."""
    ratio = min(1.0, within[0] / height, within[1] / width)
    even = (2 * max(1, round(side * ratio / 2)) for side in (width, height))
    return (width, height) if ratio == 1 else (next(even), next(even))


def pipeline(
    sensor: int, width: int, height: int, fps: int, mode: int, flip: int, size: tuple[int, int] | None = None
) -> str:
    """JetPack's pipeline from the sensor to frames in memory; its sink keeps the newest frame only.

    nvvidconv can't write 3-byte RGB, so BGRx it is. `size`: (width, height) that it scales to, after flipping.
    """
    small = f",width={size[0]},height={size[1]}" if size else ""
    return (
        f"nvarguscamerasrc sensor-id={sensor} sensor-mode={mode} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12 ! "
        f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx{small} ! "
        "appsink name=sink drop=true max-buffers=1 sync=false"
    )


def open_csi(uri: str, wanted: Wanted) -> FrameSource:
    """Starts the CSI camera with that sensor number; frames come as small as they are wanted.

    Raises:
        InputError: no bindings, no such plugin or sensor, or an unknown option (names the nearest match).
    """
    sensor = split_uri(uri).netloc
    options = read_options(uri, OPTIONS)
    shown = masked_uri(uri)
    if not (sensor.isascii() and sensor.isdecimal() and len(sensor) <= 3):
        raise InputError(f"no sensor number in {shown}; type csi://0")
    scale, width, height = options.pop("scale"), options["width"], options["height"]
    seen = (height, width) if options["flip"] in TURNING else (width, height)
    size = scaled(*seen, wanted.within) if wanted.within and scale else seen
    gst = load_gst()
    if lack := missing_elements(gst, ELEMENTS):
        raise InputError(f"cannot open {shown}: {lack}")
    camera = CsiCamera(
        uri, gst, pipeline(int(sensor), **options, size=size if size != seen else None), fps=options["fps"]
    )
    if size != seen:
        camera.note = (
            f"{shown}: frames of {seen[0]}x{seen[1]} come scaled to {size[0]}x{size[1]}, as the model needs them; overlay and "
            "record are of that size (scale=0 in the URI leaves them as they are)"
        )
    return camera


class CsiCamera(FrameSource):
    """Frames of a GStreamer pipeline whose appsink is called `sink` and gives BGRx."""

    def __init__(self, uri: str, gst: Any, description: str, *, fps: float):
        super().__init__(uri, live=True, fps=fps)
        self._gst = gst
        try:
            self._pipeline = gst.parse_launch(description)
        except Exception as error:  # GLib.Error, whose class lives in the bindings
            raise InputError(
                f"cannot open {self.uri} ({error}); to look closer: gst-launch-1.0 {description}"
            ) from error
        self._sink = self._pipeline.get_by_name("sink")
        started = self._pipeline.set_state(gst.State.PLAYING)
        if started == gst.StateChangeReturn.FAILURE:
            self._pipeline.set_state(gst.State.NULL)
            raise CameraAway(
                f"{self.uri} does not start; is the sensor connected? to look closer: gst-launch-1.0 {description}"
            )

    def one_pass(self) -> Iterator[Picture]:
        while True:
            sample = self._sink.emit("try-pull-sample", int(READ_TIMEOUT_S * 1e9))
            if sample is not None:
                yield Picture(self._image(sample))
                continue
            error = self._pipeline.get_bus().pop_filtered(self._gst.MessageType.ERROR)
            if error is not None:
                raise CameraUnplugged(
                    f"camera {self.uri} is gone ({error.parse_error()[0]}); reconnect it and run again"
                )
            if self._sink.get_property("eos"):
                raise CameraUnplugged(f"camera {self.uri} ended its stream; check it and run again")
            raise CameraStalled(f"camera {self.uri} gave no frame for {READ_TIMEOUT_S:g} s; check it and run again")

    def _image(self, sample: Any) -> np.ndarray:
        """A BGRx buffer, copied out of GStreamer's memory as RGB."""
        try:
            with mapped(self._gst, sample) as bgrx_HW4:
                return np.ascontiguousarray(bgrx_HW4[:, :, 2::-1])
        except HardwareFailed as error:
            raise CameraUnplugged(f"camera {self.uri}: {error}; run again") from error

    def close(self) -> None:
        super().close()
        self._pipeline.set_state(self._gst.State.NULL)
