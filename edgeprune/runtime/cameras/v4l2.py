"""USB and other V4L2 cameras: `0` or `/dev/video0`, through PyAV's v4l2 input."""

import errno
import glob

from edgeprune.base.errors import InputError
from edgeprune.runtime.cameras.kind import Wanted
from edgeprune.runtime.cameras.pyav import LiveStream, load_av
from edgeprune.runtime.cameras.source import FrameSource

DEVICES = "/dev/video*"


def open_v4l2(uri: str, wanted: Wanted) -> FrameSource:
    """Opens camera `N` or `/dev/videoN` in the format and size that its driver is set to.

    Raises:
        InputError: no such camera (names those that exist), no permission, in use, or not a camera.
    """
    device = f"/dev/video{uri.lstrip('0') or 0}" if uri.isdecimal() else uri
    there = sorted(glob.glob(DEVICES))
    if device not in there:
        listed = f"cameras here: {', '.join(there)}" if there else f"no camera is connected (nothing at {DEVICES})"
        raise InputError(
            f"no camera at {device}; {listed}; type one of these, a video file or synthetic://street?seed=1"
        )
    av = load_av()
    try:
        container = av.open(device, format="v4l2")
    except PermissionError as error:
        raise InputError(
            f"no permission to open {device}; type: sudo usermod -aG video $USER, and log in again"
        ) from error
    except (av.error.FFmpegError, OSError) as error:
        if error.errno == errno.EBUSY:
            raise InputError(f"{device} is in use by another program; close that one and run again") from error
        others = [other for other in there if other != device]
        hint = f"; try {' or '.join(others)}" if others else ""
        raise InputError(f"{device} gives no video ({error.strerror}); it may be a metadata node{hint}") from error
    return LiveStream(uri, container)
