"""What this machine has of what edgeprune needs, and what to type where something is missing."""

import importlib
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edgeprune.base.clocks import gpu_clocks, memory_clock
from edgeprune.base.device import JETPACKS, board_name, cache_folder, is_jetson, l4t_release
from edgeprune.base.errors import EdgepruneError, InputError
from edgeprune.base.files import make_folder
from edgeprune.base.power_mode import how_to_be_fastest, power_mode
from edgeprune.runtime.cameras.csi import ELEMENTS
from edgeprune.runtime.cameras.gstreamer import load_gst, missing_elements
from edgeprune.runtime.engines.cuda import open_cuda
from edgeprune.runtime.engines.onnxruntime import load_onnxruntime
from edgeprune.runtime.engines.openvino import load_openvino
from edgeprune.runtime.engines.plan_builder import too_old
from edgeprune.runtime.engines.trt_runtime import load_tensorrt
from edgeprune.runtime.meters import open_meter
from edgeprune.runtime.meters.nvml import gpu_seen

OLDEST_L4T = (36, 4)  # JetPack 6.1
LEAST_MEMORY_GB = 2.0
POWER_S = 0.2  # power is measured for as long


@dataclass(frozen=True)
class Finding:
    """One line. `ok` None: neither needed nor wrong on this machine. `remedy`: what to do, empty where nothing is."""

    what: str
    found: str
    ok: bool | None
    remedy: str = ""


def examine(root: Path = Path("/")) -> list[Finding]:
    """Every finding. `root`: where /proc, /sys, /dev and /etc lie, for tests."""
    return [check(root) for check in CHECKS]


def _board(root: Path) -> Finding:
    name = board_name(root)
    if is_jetson(root):
        return Finding("board", name or "a Jetson", True)
    return Finding("board", f"not a Jetson ({name or platform.machine()})", None)


def _jetpack(root: Path) -> Finding:
    release = l4t_release(root)
    if release is None:
        return Finding("JetPack", "none: not a Jetson", None)
    numbers = re.match(r"(\d+)\.(\d+)\.", release)
    if not numbers:
        return Finding("JetPack", f"unknown release {release.split(',')[0]}", False, "flash JetPack 6.1 or later")
    able = tuple(int(number) for number in numbers.groups()) >= OLDEST_L4T
    found = f"{JETPACKS[release]} (L4T {release})" if release in JETPACKS else f"L4T {release}"
    return Finding("JetPack", found, able, "" if able else "flash JetPack 6.1 or later")


def _needed_on_jetson(what: str, root: Path, look: Callable[[], str], otherwise: str) -> Finding:
    """A part that a Jetson has to have and another machine may do without."""
    try:
        return Finding(what, look(), True)
    except EdgepruneError as error:
        reason = str(error).split(";")
        if is_jetson(root):
            return Finding(what, reason[0], False, ";".join(reason[1:]).strip())
        return Finding(what, "none", None, otherwise)


def _tensorrt(root: Path) -> Finding:
    def look() -> str:
        return str(load_tensorrt().__version__)

    finding = _needed_on_jetson("TensorRT", root, look, "only a Jetson or an NVIDIA GPU has a use for it")
    if finding.ok and too_old(finding.found):
        return Finding("TensorRT", finding.found, False, "10.3 or later is needed: flash JetPack 6.1 or later")
    return finding


def _cuda(root: Path) -> Finding:
    def look() -> str:
        cuda = open_cuda()
        return f"{cuda.version}, GPU {cuda.architecture()}"

    return _needed_on_jetson("CUDA", root, look, "graphs run on the CPU here")


def _package(what: str, name: str, remedy: str) -> Finding:
    """One that may be missing. Not imported: that takes seconds."""
    try:
        return Finding(what, metadata.version(name), True)
    except metadata.PackageNotFoundError:
        return Finding(what, "none", None, remedy)


def _onnxruntime(root: Path) -> Finding:
    try:
        return Finding("ONNX Runtime", str(load_onnxruntime().__version__), True)
    except EdgepruneError as error:
        return Finding("ONNX Runtime", str(error).split(";")[0], False, "pip install onnxruntime")


def _openvino(root: Path) -> Finding:
    try:
        return Finding("OpenVINO", str(load_openvino().__version__), True)
    except EdgepruneError:
        return Finding("OpenVINO", "none", None, "the faster engine on x86: pip install 'edgeprune[openvino]'")


def _torch_tensorrt(root: Path) -> Finding:
    if not (gpu_seen(root) or is_jetson(root)):
        return _package("Torch-TensorRT", "torch-tensorrt", "only an NVIDIA GPU has a use for it")
    remedy = (
        "for `build --builder torch-tensorrt` on discrete GPUs and Thor: an NVIDIA GPU, torch with CUDA, and pip install "
        "'edgeprune[tensorrt]'; there is no Orin release after 2.8"
    )
    return _package("Torch-TensorRT", "torch-tensorrt", remedy)


def _training(root: Path) -> Finding:
    return _package("torch", "torch", "to train and build: pip install 'edgeprune[train]'")


def _gstreamer(root: Path) -> Finding:
    def look() -> str:
        gst = load_gst()
        if lack := missing_elements(gst, ELEMENTS):
            raise InputError(lack)
        return str(gst.version_string())

    return _needed_on_jetson("GStreamer", root, look, "CSI cameras are a Jetson's")


def _opencv(root: Path) -> Finding:
    try:
        built = str(importlib.import_module("cv2").getBuildInformation())
    except Exception:
        return Finding("OpenCV", "none", None, "nothing here needs it")
    with_it = bool(re.search(r"GStreamer:\s+YES", built))
    if with_it or not is_jetson(root):
        return Finding("OpenCV", f"{'with' if with_it else 'without'} GStreamer", True)
    remedy = "pip's wheel hides JetPack's own build: pip uninstall opencv-python"
    return Finding("OpenCV", "without GStreamer", False, remedy)


def _video(root: Path) -> Finding:
    return _package("PyAV", "av", "for cameras but CSI, video files and --out: pip install 'edgeprune[video]'")


def _cameras(root: Path) -> Finding:
    found = [f"/dev/{path.name}" for path in sorted((root / "dev").glob("video*"))]
    if found:
        return Finding("cameras", ", ".join(found), True)
    return Finding("cameras", "none under /dev/video*", None, "without one: --camera synthetic://street, or a file")


def _power(root: Path) -> Finding:
    meter = open_meter("auto", root)
    meter.start()
    time.sleep(POWER_S)
    energy = meter.stop()
    if not energy.joules:
        return Finding("power sensor", energy.status, False if is_jetson(root) else None)
    watts = ", ".join(f"{rail} {joules / energy.seconds:.1f} W" for rail, joules in energy.joules.items())
    return Finding(
        "power sensor", f"{energy.status}: {watts}; total of {' + '.join(energy.total_of) or 'nothing'}", True
    )


def _mode(root: Path) -> Finding:
    mode = power_mode(root)
    if not is_jetson(root):
        return Finding("power mode", mode or "unknown", None)
    return Finding("power mode", mode or "unknown", mode is not None, how_to_be_fastest(root) or "")


def _gpu_clock(root: Path) -> Finding:
    clocks = gpu_clocks(root)
    shown = [
        f"{name} {clock.mhz:.0f}" + (f" of {clock.most_mhz:.0f}" if clock.most_mhz else "") + " MHz"
        for name, clock in clocks.items()
    ]
    return Finding("GPU clock", ", ".join(shown) or "not readable", True if shown else None)


def _memory_clock(root: Path) -> Finding:
    clock = memory_clock(root)
    most = f" of {clock.most_mhz:.0f}" if clock.most_mhz else ""
    if clock.mhz is not None:
        return Finding("memory clock", f"EMC {clock.mhz:.0f}{most} MHz", True)
    return Finding("memory clock", f"not readable{most and f', the mode allows{most[3:]} MHz'}", None, clock.why or "")


def _cache(root: Path) -> Finding:
    try:
        folder = cache_folder()
        make_folder(folder, "compiled engines")
    except EdgepruneError as error:
        return Finding("cache", str(error).split(";")[0], False, "export EDGEPRUNE_CACHE=A_FOLDER_YOU_MAY_WRITE_TO")
    return Finding("cache", f"{folder} can be written to", True)


def _memory(root: Path) -> Finding:
    try:
        lines = (root / "proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) / 1e6
    except (OSError, StopIteration, ValueError):
        return Finding("memory", "unknown", None)
    enough = free >= LEAST_MEMORY_GB
    remedy = "" if enough else "compiling may need 2 GB: stop the desktop with sudo systemctl isolate multi-user.target"
    return Finding("memory", f"{free:.1f} GB free", enough, remedy)


CHECKS: tuple[Callable[[Path], Finding], ...] = (
    _board, _jetpack, _tensorrt, _cuda, _onnxruntime, _openvino, _torch_tensorrt, _training, _cameras, _gstreamer, _opencv,
    _video, _power, _mode, _gpu_clock, _memory_clock, _cache, _memory,
)  # fmt: skip
