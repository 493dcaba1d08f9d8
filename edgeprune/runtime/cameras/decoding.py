"""By what video is decoded: the processor, or a part of the machine made for it; and whether frames come scaled.

`run --decode auto|software|NAME[,scaled]`. A hardware decoder computes the same pixels (H.264 and its kin say which), but it
mostly does not report what is damaged, and `cameras/whole.py` then has nothing to go by: `software` notices the most.
"""

from functools import cache
from typing import Any, NamedTuple

from edgeprune.base.device import is_jetson
from edgeprune.base.errors import InputError, choose
from edgeprune.runtime.cameras.gstreamer import missing_decoder
from edgeprune.runtime.cameras.pyav import load_av

AUTO, SOFTWARE, GSTREAMER, SCALED = "auto", "software", "gstreamer", "scaled"
# FFmpeg's names of devices that decode by `AV_CODEC_HW_CONFIG_METHOD_HW_DEVICE_CTX` (libavutil/hwcontext.h), which PyAV opens
DEVICES = {
    "vaapi": "Intel and AMD, by /dev/dri",
    "cuda": "NVIDIA's NVDEC",
    "vdpau": "older NVIDIA and AMD",
    "drm": "V4L2's stateless decoders, as of a Raspberry Pi, where FFmpeg was built for them",
    "vulkan": "Vulkan Video",
    "videotoolbox": "macOS",
}
# By `auto`. Vulkan has devices that are the processor. A Jetson's decoder is reached by GStreamer (Jetson Linux Developer
# Guide, "Accelerated GStreamer"), and a CUDA context for FFmpeg would take memory there that graphs need. Elsewhere nobody's
# GStreamer is loaded.
TRIED = ("vaapi", "cuda", "vdpau", "drm", "videotoolbox")
TRIED_ON_JETSON = (GSTREAMER,)
WAYS = {AUTO: "what is there", SOFTWARE: "the processor", GSTREAMER: "a Jetson's nvv4l2decoder", **DEVICES}
# What a device hands down is semi-planar, luma and then both chromas, of 8, 10 or 12 bits; FFmpeg's own decoders of the
# same codecs give planes.
SEMI_PLANAR = ("nv12", "p010le", "p012le", "p016le", "nv16", "p210le", "nv24")
PROBE = "h264"  # a device that decodes anything decodes that


class Decoding(NamedTuple):
    """How it is wanted.

    Attributes:
        by: a key of WAYS.
        scaled: frames come as small as the model needs them, scaled while colours are converted.
    """

    by: str = SOFTWARE
    scaled: bool = False


AS_STORED = Decoding()


def read_decoding(text: str) -> Decoding:
    """What was typed: a way, `scaled`, or both with a comma between.

    Raises:
        InputError: an unknown word (names the nearest), two ways.
    """
    words = [word.strip() for word in text.split(",")]
    for word in words:
        choose({**WAYS, SCALED: ""}, word, "--decode")
    ways = [word for word in words if word != SCALED]
    if len(ways) > 1 or len(set(words)) < len(words):
        raise InputError(f"--decode {text!r}: one way, and `scaled` where it is wanted; write it as auto,scaled")
    return Decoding(ways[0] if ways else AUTO, SCALED in words)


class Device(NamedTuple):
    """Hardware that decodes: its name, and PyAV's `HWAccel`, with which FFmpeg falls back to software in the same decoder where
    a stream can't be decoded so; None of GStreamer's."""

    name: str
    accel: Any = None

    def of_frame(self, frame: Any) -> bool:
        """Whether a frame came from it; else FFmpeg fell back."""
        return self.accel is None or frame.format.name in SEMI_PLANAR


def find_device(decoding: Decoding) -> Device | None:
    """What is to be tried; None: software.

    Raises:
        InputError: what was named is not here, with the reason.
    """
    if decoding.by == SOFTWARE:
        return None
    tried: tuple[str, ...] = (decoding.by,)
    if decoding.by == AUTO:
        tried = TRIED_ON_JETSON if is_jetson() else TRIED
    for name in tried:
        if not (reason := _refusal(name)):
            return Device(name, None if name == GSTREAMER else _accel(name))
    if decoding.by == AUTO:
        return None
    raise InputError(f"--decode {decoding.by}: it is not here ({reason}); --decode auto takes what there is")


def accel_of(decoding: Decoding) -> dict[str, Any]:
    """For PyAV's `open`. Raises InputError as `find_device`."""
    device = find_device(decoding)
    return {"hwaccel": device.accel} if device and device.accel else {}


@cache
def _refusal(name: str) -> str | None:
    """Why there is no such device here; None where there is one. Opening one takes a moment: it is asked for once."""
    if name == GSTREAMER:
        return missing_decoder()
    av = load_av()
    if name not in _hwaccel().hwdevices_available():
        return "this PyAV was built without it"
    try:
        if av.CodecContext.create(PROBE, "r", hwaccel=_accel(name)).is_hwaccel:
            return None
    except (av.error.FFmpegError, OSError) as error:
        return f"it does not open: {error.strerror or error}"
    return f"it does not decode {PROBE}"


def _accel(name: str) -> Any:
    return _hwaccel().HWAccel(name, allow_software_fallback=True)


def _hwaccel() -> Any:
    load_av()
    from av.codec import hwaccel

    return hwaccel
