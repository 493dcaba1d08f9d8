"""The GPU: whether there is one, what it is, its energy meter, and how networks and frames come to lie for it.

Shapes: H W pixels of the frame.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edgeprune.base.errors import InputError
from edgeprune.data.samples import UInt8
from edgeprune.runtime.meters import Meter, NoSensor, open_meter
from edgeprune.runtime.meters.none import NoMeter

Placed = TypeVar("Placed", bound=nn.Module)


def find_gpu() -> torch.device:
    """The GPU.

    Raises:
        InputError: torch sees none.
    """
    if not torch.cuda.is_available():
        raise InputError(
            f"torch {torch.__version__} sees no CUDA GPU here; type `edgeprune bench` for this machine's engines, or install "
            "torch with CUDA where a GPU is"
        )
    return torch.device("cuda")


def describe_gpu(device: torch.device) -> dict[str, Any]:
    """`torch`, its `cuda`, and `name` of the GPU; of a CPU the name is its type's."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"torch": torch.__version__, "cuda": torch.version.cuda, "name": name}


def open_gpu_meter() -> Meter:
    """NVML's, or one that says why there is none: `auto` would take the meter of a server's CPU first."""
    try:
        return open_meter("nvml")
    except NoSensor as error:
        return NoMeter(str(error))


@contextmanager
def fastest_inference() -> Iterator[None]:
    """Inside, no gradients are kept, and cuDNN tries its kernels out before it takes one, for dense models and peers alike."""
    with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, benchmark=True):
        yield


def place(network: Placed, device: torch.device, dtype: torch.dtype) -> Placed:
    """A network on a device, its weights in one type and those of convolutions with channels last, as their tensor cores take
    them; frames (H, W, 3) come in that order anyway."""
    network.eval().requires_grad_(False)
    return network.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def place_frame(levels_HW3: UInt8, device: torch.device) -> Tensor:
    """A frame on the host, in pinned memory where there is a GPU to copy to."""
    frame_HW3 = torch.from_numpy(levels_HW3.copy())  # one that was resized can't be written to, of which torch warns
    return frame_HW3.pin_memory() if device.type == "cuda" else frame_HW3
