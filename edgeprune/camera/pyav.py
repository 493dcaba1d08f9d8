"""PyAV (the optional extra `video`): imported when first needed; frames in display orientation; live streams."""

import errno
from collections.abc import Iterator
from typing import Any

import numpy as np

from edgeprune.camera.source import CameraStalled, CameraUnplugged, FrameSource, Picture
from edgeprune.errors import InputError


def load_av() -> Any:
    """The module `av`, with FFmpeg's own messages silenced (errors are raised, not printed).

    Raises:
        InputError: PyAV isn't installed.
    """
    try:
        import av
        import av.logging
    except ImportError as error:
        raise InputError(
            f"video files and cameras need PyAV, which cannot be imported ({error}); pip install 'edgeprune[video]'"
        ) from error
    av.logging.set_level(av.logging.PANIC)
    return av


class ToRgb:
    """Decoded video frames -> contiguous uint8 RGB in display orientation. One per stream: it keeps its scaler."""

    def __init__(self) -> None:
        self._reformatter = load_av().video.reformatter.VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        """A PyAV VideoFrame -> image_HW3. Phones store portrait video sideways and note the rotation beside it."""
        image_HW3 = self._reformatter.reformat(frame, format="rgb24").to_ndarray()
        quarter_turns = round(getattr(frame, "rotation", 0) / 90) % 4  # counter-clockwise, as in np.rot90
        return np.ascontiguousarray(np.rot90(image_HW3, quarter_turns)) if quarter_turns else image_HW3


class LiveStream(FrameSource):
    """Frames of a container that PyAV keeps open: a V4L2 device or a network camera.

    Packets that can't be decoded (webcams send such while they start) are passed over: newer ones follow.
    """

    def __init__(self, uri: str, container: Any):
        rate = container.streams.video[0].average_rate
        super().__init__(uri, live=True, fps=float(rate) if rate else None)
        self._container = container

    def one_pass(self) -> Iterator[Picture]:
        av = load_av()
        to_rgb = ToRgb()
        try:
            for packet in self._container.demux(video=0):
                try:
                    frames = packet.decode()
                except av.error.InvalidDataError:
                    continue
                for frame in frames:
                    yield Picture(to_rgb(frame))
        except (av.error.ExitError, TimeoutError) as error:
            raise CameraStalled(f"camera {self.uri} delivers no more frames; check it and run again") from error
        except (av.error.FFmpegError, OSError) as error:
            reason = errno.errorcode.get(error.errno or 0, "") or type(error).__name__
            raise CameraUnplugged(
                f"camera {self.uri} is gone ({reason}: {error.strerror}); plug it in or reconnect it, and run again"
            ) from error

    def close(self) -> None:
        super().close()
        self._container.close()
