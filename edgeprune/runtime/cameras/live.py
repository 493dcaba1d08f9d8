"""Live streams of a container that PyAV keeps open: of a V4L2 device, a network camera, a pipe."""

import errno
from collections.abc import Iterator
from typing import Any

from edgeprune.base.errors import EdgepruneError
from edgeprune.runtime.cameras.decoder import Decoder
from edgeprune.runtime.cameras.gstreamer import HardwareFailed
from edgeprune.runtime.cameras.kind import AS_IT_COMES, Wanted
from edgeprune.runtime.cameras.pyav import HeldBack, load_av, video_stream
from edgeprune.runtime.cameras.source import CameraStalled, CameraUnplugged, FrameSource, Picture
from edgeprune.runtime.cameras.whole import WholeFrames


class LiveStream(FrameSource):
    """Frames of a container that PyAV keeps open: a V4L2 device or a network camera.

    Packets that can't be decoded (webcams send such while they start) and damaged frames are passed over and counted:
    newer ones follow. What fails is a `CameraUnplugged`; a subclass may know better.
    """

    def __init__(self, uri: str, container: Any, wanted: Wanted = AS_IT_COMES):
        self._stream = video_stream(container)
        rate = self._stream.average_rate
        super().__init__(uri, live=True, fps=float(rate) if rate else None)
        self._container = container
        self._decoder = Decoder(self.uri, self._stream, wanted)

    def one_pass(self) -> Iterator[Picture]:
        av = load_av()
        whole = WholeFrames(references=not self._stream.codec_context.codec.intra_only, hold=False)
        held = HeldBack(self._stream)
        try:
            for packet in self.packets():
                frames = held.before(packet)
                try:
                    frames += self.decode(packet)
                except av.error.InvalidDataError:
                    whole.lose()
                except HardwareFailed as error:
                    if self._decoder.name:
                        raise self.gone(f"its decoder failed: {error}") from error
                    self._decoder.fall_back(str(error))
                self.decoder = self._decoder.name
                captured_ns = self.captured_ns(packet)
                for frame in whole.take(frames):
                    yield Picture(self._decoder.rgb(frame), captured_ns=captured_ns)
                self.damaged = whole.damaged
        except (av.error.ExitError, TimeoutError) as error:
            raise CameraStalled(f"camera {self.uri} delivers no more frames; check it and run again") from error
        except (av.error.FFmpegError, OSError) as error:
            reason = errno.errorcode.get(error.errno or 0, "") or type(error).__name__
            raise self.gone(f"{reason}: {error.strerror}") from error

    def packets(self) -> Iterator[Any]:
        """What the device or the network delivers."""
        yield from self._container.demux(video=0)
        raise self.gone("it delivers nothing more")

    def decode(self, packet: Any) -> list[Any]:
        """The frames of a packet. Raises PyAV's InvalidDataError where it is damaged."""
        return self._decoder.decode(packet)

    def captured_ns(self, packet: Any) -> int | None:
        """When a packet was captured, by the monotonic clock, where that is known better than by its arrival."""
        return None

    def gone(self, reason: str) -> EdgepruneError:
        """What a failure in mid-stream is."""
        return CameraUnplugged(f"camera {self.uri} is gone ({reason}); plug it in or reconnect it, and run again")

    def close(self) -> None:
        super().close()
        self._decoder.close()
        self._container.close()
