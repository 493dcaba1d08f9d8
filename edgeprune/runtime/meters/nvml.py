"""NVIDIA GPUs, through NVML (nvidia-ml-py): the energy counter, or sampled power where a GPU has no counter."""

import ctypes
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeprune.base.device import is_jetson
from edgeprune.runtime.meters.meter import NoSensor, NotHere, check_rails
from edgeprune.runtime.meters.sampling import SampledMeter
from edgeprune.runtime.meters.sums import GAP_PERIODS, CounterSum, PowerIntegral

SAMPLING_HZ = 19.7  # NVML renews its power value every 20 to 100 ms; out of step with cameras, see ina3221.py
COUNTER_PERIOD_S = 0.5  # for `watts()`; it counts by itself between readings
GPU_SIGNS = ("proc/driver/nvidia", "dev/nvidia[0-9]*")  # of the kernel's driver; a container has the devices alone


def gpu_seen(root: Path) -> bool:
    """Whether the kernel shows an NVIDIA GPU. It can be told without a library, and without asking the GPU."""
    return any(True for sign in GPU_SIGNS for _ in root.glob(sign))


def find_gpus(root: Path) -> tuple[Any, dict[str, Any]]:
    """The library of NVML, and its handle of each GPU of this machine: gpu0, gpu1, ...

    Raises:
        NotHere: no NVIDIA GPU.
        NoSensor: no driver, or no nvidia-ml-py.
    """
    try:
        import pynvml
    except ImportError as error:
        if not gpu_seen(root):
            raise NotHere(f"no NVIDIA GPU (none of {', '.join(str(root / sign) for sign in GPU_SIGNS)})") from error
        raise NoSensor("NVML needs nvidia-ml-py; type: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
        present = {f"gpu{i}": pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())}
    except pynvml.NVMLError as error:
        missing = NoSensor if gpu_seen(root) else NotHere
        raise missing(f"NVML finds no NVIDIA driver ({error})") from error
    if not present:
        raise NotHere("NVML finds no NVIDIA GPU")
    return pynvml, present


def cuda_bus_id() -> bytes:
    """The PCI bus of CUDA's device 0, on which engines run: whichever it is by CUDA_VISIBLE_DEVICES, and where GPUs differ the
    fastest, while NVML counts by the bus. The driver tells it without a context on the GPU (CUDA Driver API, Device
    Management).

    Raises:
        OSError: no driver, or no such device.
    """
    driver, device, bus_id = ctypes.CDLL("libcuda.so.1"), ctypes.c_int(), ctypes.create_string_buffer(32)
    for name, arguments in (
        ("cuInit", (ctypes.c_uint(0),)),
        ("cuDeviceGet", (ctypes.byref(device), ctypes.c_int(0))),
        ("cuDeviceGetPCIBusId", (bus_id, ctypes.c_int(len(bus_id)), device)),
    ):
        if code := getattr(driver, name)(*arguments):
            raise OSError(f"{name} answers {code}")
    return bus_id.value


def _computing(pynvml: Any, present: Sequence[str]) -> str:
    """The GPU on which engines run. Raises NoSensor where there are several and nobody tells which of them."""
    if len(present) == 1:
        return present[0]
    try:
        index = pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByPciBusId(cuda_bus_id()))
    except (OSError, pynvml.NVMLError) as error:
        raise NoSensor(
            f"NVML finds {', '.join(present)}, and CUDA does not tell on which of them engines run ({error}); set "
            f"CUDA_VISIBLE_DEVICES to that one, or name it in a target file: power: {{meter: nvml, total: [{present[0]}]}}"
        ) from error
    return f"gpu{index}"


def open_nvml(root: Path, rails: Sequence[str] | None, total_of: Sequence[str] | None) -> SampledMeter:
    """The GPUs of this machine as rails gpu0, gpu1, ...; `rails` leaves out all others.

    The total is that of the GPU on which engines run, unless total_of names others.

    Raises:
        NotHere: no NVIDIA GPU.
        NoSensor: no driver, no nvidia-ml-py, a GPU that isn't there, neither counter nor power, or one of several GPUs
            computes, and nobody tells which.
    """
    pynvml, present = find_gpus(root)
    check_rails([*(rails or ()), *(total_of or ())], list(present), "NVML")
    total_of = [_computing(pynvml, list(present))] if total_of is None else total_of
    gpus = {name: present[name] for name in (present if rails is None else dict.fromkeys([*rails, *total_of]))}

    def reader(query: Callable[[object], int]) -> Callable[[], dict[str, float]]:
        """query(GPU) / 1000 of every GPU: NVML counts in mJ and mW. Silence is an OSError, as with other sensors."""

        def read() -> dict[str, float]:
            try:
                return {name: query(gpu) / 1e3 for name, gpu in gpus.items()}
            except pynvml.NVMLError as error:
                raise OSError(str(error)) from error

        return read

    read_joules = reader(pynvml.nvmlDeviceGetTotalEnergyConsumption)
    read_watts = reader(pynvml.nvmlDeviceGetPowerUsage)
    total = f"total = {' + '.join(total_of)} (not the whole machine)"
    try:
        read_joules()
        # 64 bits of millijoules never wrap.
        return SampledMeter(
            name="nvml",
            status=f"measured by NVML's energy counter, {total}",
            read=read_joules,
            new_sum=lambda: CounterSum(dict.fromkeys(gpus, math.inf)),
            period_s=COUNTER_PERIOD_S,
            total_of=total_of,
        )
    except OSError:
        pass  # before Volta, and some of Jetson's GPUs, there is no counter
    try:
        read_watts()
    except OSError as error:
        other = "; a Jetson's power is read by --meter ina3221" if is_jetson(root) else ""
        raise NoSensor(f"NVML reports neither energy nor power of {', '.join(gpus)} ({error}){other}") from error
    return SampledMeter(
        name="nvml",
        status=f"measured by NVML, sampled power, {total}",
        read=read_watts,
        new_sum=lambda: PowerIntegral(GAP_PERIODS / SAMPLING_HZ),
        period_s=1 / SAMPLING_HZ,
        total_of=total_of,
    )
