"""Compiled TensorRT engines ("plans") of a device: built once per graph, kept in a cache, refused where they don't fit.

A plan runs on the GPU and the TensorRT version that built it, and on no other (TensorRT developer guide, "Engine
compatibility"). Networks are strongly typed: the types are the graph's, and no precision flag is set. TensorRT 10 needs a
flag for that, 11 does nothing else and ignores it, so that one path serves both.
"""

import hashlib
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.device import board_name, cache_folder, power_mode, workspace_mb
from edgeprune.engines.cuda import Cuda
from edgeprune.errors import InputError, RunError
from edgeprune.files import make_folder, write_atomic

Say = Callable[[str], None]
OLDEST = (10, 3)  # JetPack 6.1
SAY_EVERY_S = 10.0
EXTERNAL = re.compile(rb"[\w.-]+\.weights")  # how `build` names the files that hold a graph's constants


def graph_hash(graph: Path) -> str:
    """Of a graph's file and of the files beside it that hold its weights.

    Raises:
        InputError: one of them is not there.
    """
    try:
        content = graph.read_bytes()
        digest = hashlib.sha256(content)
        for name in sorted(set(EXTERNAL.findall(content))):
            digest.update((graph.parent / name.decode()).read_bytes())
    except OSError as error:
        raise InputError(
            f"graph {graph}: {error.filename or graph}: {error.strerror}; build or copy it again"
        ) from error
    return digest.hexdigest()[:16]


def too_old(version: str) -> bool:
    """Whether a TensorRT of this version is older than what edgeprune builds for."""
    return tuple(int(part) for part in version.split(".")[:2]) < OLDEST


class Plans:
    """The plans of this device.

    Args:
        trt: the `tensorrt` module.
        folder: the cache; default: `edgeprune.device.cache_folder()`.

    Raises:
        InputError: TensorRT is too old.
    """

    def __init__(self, trt: Any, cuda: Cuda, folder: Path | None = None):
        if too_old(trt.__version__):
            raise InputError(f"TensorRT {trt.__version__} is too old; 10.3 or later is needed (JetPack 6.1 or later)")
        self._trt = trt
        self.folder = (folder or cache_folder()) / "plans"
        self.device = {
            "tensorrt": trt.__version__,
            "architecture": cuda.architecture(),
            "board": board_name(),
            "cuda": cuda.version,
        }

    def path(self, graph: Path) -> Path:
        """Where a graph's plan lies, or would."""
        return self.folder / f"{graph.stem}-{graph_hash(graph)}.plan"

    def read(self, graph: Path) -> bytes:
        """A graph's plan.

        Raises:
            InputError: it was not compiled yet, by another device or TensorRT, or was damaged since.
        """
        path = self.path(graph)
        again = "compile it with `edgeprune compile BUNDLE`"
        if not path.is_file():
            raise InputError(f"graph {graph} is not compiled for this device; {again}")
        about = self._about(path)
        for key in ("tensorrt", "architecture"):
            if about.get(key) != self.device[key]:
                raise InputError(
                    f"{path} was compiled for {key} {about.get(key)}, here it is {self.device[key]}; {again}"
                )
        plan = path.read_bytes()
        if hashlib.sha256(plan).hexdigest() != about.get("sha256"):
            raise InputError(f"{path} is not what was compiled (its hash differs); {again}")
        return plan

    def has(self, graph: Path) -> bool:
        """Whether `read` would give it."""
        try:
            self.read(graph)
        except InputError:
            return False
        return True

    def _about(self, path: Path) -> dict[str, Any]:
        try:
            content = json.loads(path.with_suffix(".json").read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def other_power_mode(self, graph: Path) -> str | None:
        """A line where a plan was compiled in another power mode: its kernels were timed at other clocks."""
        then, now = self._about(self.path(graph)).get("power_mode"), power_mode()
        if then is None or now is None or then == now:
            return None
        return (
            f"{graph.stem} was compiled in power mode {then!r}, now it is {now!r}; "
            "`edgeprune compile BUNDLE --again` times anew"
        )

    def compile(self, graph: Path, say: Say) -> float:
        """Builds a graph's plan into the cache; takes minutes.

        Returns:
            seconds.

        Raises:
            InputError: the parser refuses the graph, or the cache can't be written to.
            RunError: TensorRT can't build it.
        """
        make_folder(self.folder, "compiled engines")
        begin = time.monotonic()
        log = _Log(self._trt)
        timing = self.folder / f"timing-{hashlib.sha256(json.dumps(self.device).encode()).hexdigest()[:8]}.cache"
        plan, timed = self._build(graph, log, timing.read_bytes() if timing.is_file() else b"", say)
        seconds = time.monotonic() - begin
        with write_atomic(timing, "compiled engine") as partial:
            partial.write_bytes(timed)
        self.store(graph, plan, seconds)
        return seconds

    def store(self, graph: Path, plan: bytes, seconds: float, beside: dict[str, Any] | None = None) -> Path:
        """Keeps a graph's plan with what it fits. `beside`: what else is said of it; `names` are those that another builder
        gave to inputs and outputs, and what they are called in the graph."""
        make_folder(self.folder, "compiled engines")
        path = self.path(graph)
        about = self.device | {
            "graph": str(graph),
            "sha256": hashlib.sha256(plan).hexdigest(),
            "power_mode": power_mode(),
            "seconds": round(seconds, 1),
            **(beside or {}),
        }
        # the description last: a plan without one is refused
        path.with_suffix(".json").unlink(missing_ok=True)
        for target, content in ((path, plan), (path.with_suffix(".json"), json.dumps(about, indent=1).encode())):
            with write_atomic(target, "compiled engine") as partial:
                partial.write_bytes(content)
        return path

    def names(self, graph: Path) -> dict[str, str]:
        """What inputs and outputs of a graph's plan are called in the graph, where the plan names them otherwise."""
        names = self._about(self.path(graph)).get("names", {})
        return names if isinstance(names, dict) else {}

    def _build(self, graph: Path, log: "_Log", timing: bytes, say: Say) -> tuple[bytes, bytes]:
        """The plan, and the timing cache with what was timed."""
        trt = self._trt
        builder = trt.Builder(log.logger)
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log.logger)
        if not parser.parse_from_file(str(graph)):
            reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise InputError(
                f"TensorRT {trt.__version__} can't read {graph} ({reasons[0] if reasons else log.last}); "
                f"`edgeprune lint {graph}` says what it objects to; build the bundle again"
            )
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb() << 20)
        if not config.set_timing_cache(config.create_timing_cache(timing), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)  # of another version: times anew
        config.progress_monitor = monitor = _monitor(trt, graph.stem, say)
        plan = builder.build_serialized_network(network, config)
        del monitor  # it was in use until here
        if plan is None:
            raise RunError(f"TensorRT {trt.__version__} can't build {graph}: {log.last}")
        return bytes(plan), bytes(config.get_timing_cache().serialize())


def trtexec_command(graph: Path) -> str:
    """The command that builds a graph's plan with NVIDIA's own tool. TensorRT 11 takes `--stronglyTyped` and ignores it."""
    return (
        f"trtexec --onnx={graph} --saveEngine={graph.stem}.plan --stronglyTyped "
        f"--memPoolSize=workspace:{workspace_mb()}M"
    )


class _Log:
    """TensorRT's log: it says why something failed there, and only there."""

    def __init__(self, trt: Any):
        self.last = "no reason given"
        outer = self

        class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR):
                    outer.last = " ".join(message.split())[:300]

        self.logger = Logger()


def _monitor(trt: Any, name: str, say: Say) -> Any:
    """Says every ten seconds how far the build of `name` has come."""
    begin = last = time.monotonic()

    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined,misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            nonlocal last
            now = time.monotonic()
            if now - last >= SAY_EVERY_S:
                last = now
                say(f"{name}: {phase_name} {step + 1}/{self.steps.get(phase_name, 0)}, {now - begin:.0f} s")
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
