"""CSI cameras of a Jetson: csi://0?width=1280&height=720&fps=30&mode=2&flip=2, through JetPack's GStreamer."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from edgeprune.camera.query import Option, read_options
from edgeprune.camera.source import CameraStalled, CameraUnplugged, FrameSource, Picture
from edgeprune.errors import InputError

OPTIONS = {
    "width": Option(1280, least=16),
    "height": Option(720, least=16),
    "fps": Option(30, least=1),
    "mode": Option(-1, least=0),  # of the sensor; by default the one that suits the size
    "flip": Option(0, least=0, most=7),  # nvvidconv's flip-method: 2 is upside down
}
READ_TIMEOUT_S = 5.0  # without a frame for as long, the camera counts as stalled


def pipeline(sensor: int, width: int, height: int, fps: int, mode: int = -1, flip: int = 0) -> str:
    """JetPack's pipeline from the sensor to frames in memory; its sink keeps the newest frame only.

    nvvidconv can't write 3-byte RGB, so BGRx it is.
    """
    return (
        f"nvarguscamerasrc sensor-id={sensor} sensor-mode={mode} ! "
        f"video/x-raw(memory:NVMM),width={width},height={height},framerate={fps}/1,format=NV12 ! "
        f"nvvidconv flip-method={flip} ! video/x-raw,format=BGRx ! appsink name=sink drop=true max-buffers=1 sync=false"
    )


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
            f"CSI cameras need JetPack's GStreamer bindings, which cannot be imported ({error}); on a Jetson type: "
            "sudo apt install python3-gi gstreamer1.0-plugins-base, and make the environment with "
            "--system-site-packages"
        ) from error
    Gst.init(None)
    return Gst


def open_csi(uri: str, realtime: bool, loop: bool) -> FrameSource:
    """Starts the CSI camera with that sensor number.

    Raises:
        InputError: no bindings, no such plugin or sensor, or an unknown option (names the nearest match).
    """
    sensor = urlsplit(uri).netloc
    options = read_options(uri, OPTIONS)
    if not sensor.isdecimal():
        raise InputError(f"no sensor number in {uri}; type csi://0")
    return CsiCamera(uri, load_gst(), pipeline(int(sensor), **options), fps=options["fps"])


class CsiCamera(FrameSource):
    """Frames of a GStreamer pipeline whose appsink is called `sink` and gives BGRx."""

    def __init__(self, uri: str, gst: Any, description: str, *, fps: float):
        super().__init__(uri, live=True, fps=fps)
        self._gst = gst
        try:
            self._pipeline = gst.parse_launch(description)
        except Exception as error:  # GLib.Error, whose class lives in the bindings
            raise InputError(f"cannot open {uri} ({error}); to look closer: gst-launch-1.0 {description}") from error
        self._sink = self._pipeline.get_by_name("sink")
        started = self._pipeline.set_state(gst.State.PLAYING)
        if started == gst.StateChangeReturn.FAILURE:
            self._pipeline.set_state(gst.State.NULL)
            raise InputError(
                f"{uri} does not start; is the sensor connected? to look closer: gst-launch-1.0 {description}"
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
                return
            raise CameraStalled(f"camera {self.uri} gave no frame for {READ_TIMEOUT_S:g} s; check it and run again")

    def _image(self, sample: Any) -> np.ndarray:
        """A BGRx buffer, copied out of GStreamer's memory as RGB."""
        shape = sample.get_caps().get_structure(0)
        height, width = shape.get_value("height"), shape.get_value("width")
        buffer = sample.get_buffer()
        mapped, memory = buffer.map(self._gst.MapFlags.READ)
        if not mapped:
            raise CameraUnplugged(f"camera {self.uri}: a frame's memory cannot be read; run again")
        try:
            bgrx_HW4 = np.frombuffer(memory.data, np.uint8).reshape(height, -1, 4)[:, :width]
            return np.ascontiguousarray(bgrx_HW4[:, :, 2::-1])
        finally:
            buffer.unmap(memory)

    def close(self) -> None:
        super().close()
        self._pipeline.set_state(self._gst.State.NULL)
