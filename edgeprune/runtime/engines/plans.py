"""Compiled TensorRT engines ("plans") of a device: built once per graph, kept in a cache, refused where they don't fit.

A plan runs on the GPU and the TensorRT version that built it, and on no other (TensorRT developer guide, "Engine
compatibility"). Networks are strongly typed: the types are the graph's, and no precision flag is set. TensorRT 10 needs a
flag for that, 11 does nothing else and ignores it, so that one path serves both; `weak_typing` is what is left where a TensorRT
before 10.12 can't. TF32 is off: it is on by default (NvInfer.h, `BuilderFlag::kTF32`), and would round what the graph keeps in
FP32 to 10 bits of mantissa.
"""

import hashlib
import json
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.base.device import board_name, cache_folder, typing, workspace_mb
from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.base.files import make_folder, sha256, write_atomic
from edgeprune.base.inputs import blocks_of
from edgeprune.base.power_mode import power_mode
from edgeprune.bundle.onnx_files import external_files
from edgeprune.runtime.engines.cuda import Cuda
from edgeprune.runtime.engines.memory import no_memory
from edgeprune.runtime.engines.trt_log import Log
from edgeprune.runtime.engines.weak_typing import hold_types, types_in, typings

logger = logging.getLogger(__name__)

Stamp = tuple[Path, int, int, int]
OLDEST = (10, 3)  # JetPack 6.1
SAY_EVERY_S = 10.0
COMPILE = "compile it with `edgeprune compile BUNDLE`"
LEAVE_MEMORY = (
    "stop other programs (on a Jetson the desktop: sudo systemctl isolate multi-user.target), or let kernels take less: "
    "EDGEPRUNE_WORKSPACE_MB=256"
)


def graph_hash(graph: Path) -> str:
    """Of a graph's file and of the files beside it that hold its constants.

    Raises:
        InputError: one of them is not there or no regular file, or it is no ONNX graph.
    """
    digest = hashlib.sha256()
    beside = [(graph.parent / name, f"the constants of {graph},") for name in sorted(external_files(graph))]
    for path, what in ((graph, "graph"), *beside):  # in blocks: of a large model more than a small board has free
        for block in blocks_of(path, what):
            digest.update(block)
    return digest.hexdigest()[:16]


def _stamp(path: Path) -> Stamp | None:
    """What changes when a file is written anew; None where it is not there."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_ino, status.st_mtime_ns, status.st_size


def too_old(version: str) -> bool:
    """Whether a TensorRT of this version is older than what edgeprune builds for."""
    return _numbers(version) < OLDEST


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@dataclass(frozen=True)
class Built:
    """A plan, the timing cache with what was timed for it, `strong` or `weak`, and the seconds it took."""

    plan: bytes
    timing: bytes
    typing: str
    seconds: float


class Plans:
    """The plans of this device.

    Args:
        trt: the `tensorrt` module.
        log: the logger of this process.
        folder: the cache; default: `edgeprune.base.device.cache_folder()`.

    Raises:
        InputError: TensorRT is too old.
    """

    def __init__(self, trt: Any, cuda: Cuda, log: Log, folder: Path | None = None):
        if too_old(trt.__version__):
            raise InputError(f"TensorRT {trt.__version__} is too old; 10.3 or later is needed (JetPack 6.1 or later)")
        self._trt, self._cuda, self._log = trt, cuda, log
        self._hashes: dict[Stamp | None, str] = {}
        self.folder = (folder or cache_folder()) / "plans"
        self.device = {
            "tensorrt": trt.__version__,
            "architecture": cuda.architecture(),
            "board": board_name(),
            "cuda": cuda.version,
            "tf32": "off",
        }

    def path(self, graph: Path) -> Path:
        """Where a graph's plan lies, or would."""
        stamp = _stamp(graph)  # hashed once in a process, weights and all: a bundle never changes
        if stamp is None or stamp not in self._hashes:
            self._hashes[stamp] = graph_hash(graph)
        return self.folder / f"{graph.stem}-{self._hashes[stamp]}.plan"

    def _fitting(self, graph: Path) -> tuple[Path, dict[str, Any]]:
        """A graph's plan as far as its description tells, and the description.

        Raises:
            InputError: it was not compiled yet, or otherwise, or by another device or TensorRT.
        """
        path = self.path(graph)
        if not path.is_file():
            raise InputError(f"graph {graph} is not compiled for this device; {COMPILE}")
        about = self._about(path)
        for key in ("tensorrt", "architecture", "tf32"):
            if about.get(key) != self.device[key]:
                raise InputError(
                    f"{path} was compiled for {key} {about.get(key)}, here it is {self.device[key]}; {COMPILE}"
                )
        if typing() == "weak" and about.get("typing") != "weak":
            raise InputError(f"{path} was compiled strongly typed, and EDGEPRUNE_TYPING is weak; {COMPILE}")
        return path, about

    def read(self, graph: Path) -> bytes:
        """A graph's plan.

        Raises:
            InputError: it was not compiled yet, or otherwise, by another device or TensorRT, or was damaged since.
        """
        path, about = self._fitting(graph)
        try:
            plan = path.read_bytes()
        except OSError as error:
            raise InputError(f"{path} can't be read ({error.strerror}); {COMPILE}") from error
        if hashlib.sha256(plan).hexdigest() != about.get("sha256"):
            raise InputError(f"{path} is not what was compiled (its hash differs); {COMPILE}")
        return plan

    def has(self, graph: Path) -> bool:
        """Whether `read` would give it."""
        return self.about(graph) is not None

    def about(self, graph: Path) -> dict[str, Any] | None:
        """What is known of a graph's plan: `sha256`, `typing` and what it fits; None where `read` would not give it."""
        try:
            path, about = self._fitting(graph)
            stamp = _stamp(path)
            if stamp is None or stamp not in self._hashes:
                self._hashes[stamp] = sha256(path)
        except (InputError, OSError):
            return None
        return about if self._hashes[stamp] == about.get("sha256") else None

    def size(self, graph: Path) -> int:
        """Bytes of a graph's plan; nearly all of them are weights, which the device holds once more when it is opened."""
        return self.path(graph).stat().st_size

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

    @property
    def _timing(self) -> Path:
        return self.folder / f"timing-{hashlib.sha256(json.dumps(self.device).encode()).hexdigest()[:8]}.cache"

    def forget_times(self) -> None:
        """Lets everything be timed anew: what is in the timing cache is not timed again, whatever the clocks are by now."""
        self._timing.unlink(missing_ok=True)

    def check(self, graphs: Iterable[Path]) -> None:
        """Says what is missing before minutes are spent.

        Raises:
            InputError: a graph or its constants are not there, or it is no ONNX graph; the cache can't be written to; or a
                setting is none.
        """
        for graph in graphs:
            graph_hash(graph)
        make_folder(self.folder, "compiled engines")
        typings(_numbers(self._trt.__version__), typing())
        workspace_mb()

    def build(self, graph: Path) -> Built:
        """Builds a graph's plan; takes minutes. `keep` puts it into the cache.

        Raises:
            InputError: the parser refuses the graph.
            RunError: TensorRT can't build it, or has no memory for it.
        """
        begin = time.monotonic()
        timing = self._timing.read_bytes() if self._timing.is_file() else b""
        failures: list[EdgepruneError] = []
        for how in typings(_numbers(self._trt.__version__), typing()):
            self._log.listen()
            try:
                plan, timed = self._build(graph, how, timing)
            except EdgepruneError as error:
                failures.append(error)
                if self._log.lacks_memory:  # it would run out of it again
                    raise
                continue
            if failures:
                logger.warning(f"{graph.stem}: {failures[0]}; built weakly typed, each layer held to the graph's types")
            return Built(plan, timed, how, time.monotonic() - begin)
        raise failures[0] if len(failures) == 1 else type(failures[0])(f"{failures[0]}; weakly typed: {failures[1]}")

    def keep(self, graph: Path, built: Built) -> None:
        """Puts what was built into the cache.

        Raises:
            InputError: it can't be written to.
            RunError: the disk is full.
        """
        with write_atomic(self._timing, "compiled engine") as partial:
            partial.write_bytes(built.timing)
        self.store(graph, built.plan, built.seconds, {"typing": built.typing})

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

    def _build(self, graph: Path, how: str, timing: bytes) -> tuple[bytes, bytes]:
        """The plan, and the timing cache with what was timed. `how`: `strong` or `weak`."""
        trt, log = self._trt, self._log
        builder = start(trt.Builder, log)
        network, parser = self._parse(builder, graph, how == "strong")
        config = builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb() << 20)
        config.clear_flag(trt.BuilderFlag.TF32)
        if not config.set_timing_cache(config.create_timing_cache(timing), False):
            config.set_timing_cache(config.create_timing_cache(b""), False)  # of another version: times anew
        log.listen()
        if how == "weak":
            typed, of_typed = self._parse(builder, graph, strongly=True)
            hold_types(trt, network, config, types_in(typed))
            del of_typed
        config.progress_monitor = monitor = _monitor(trt, graph.stem)
        plan = builder.build_serialized_network(network, config)
        del monitor, parser  # they were in use until here: the parser owns the weights
        if plan is None:
            what = f"TensorRT {trt.__version__} can't build {graph}"
            raise self._failure(RunError(f"{what}: {log.reason}"), what)
        return bytes(plan), bytes(config.get_timing_cache().serialize())

    def _parse(self, builder: Any, graph: Path, strongly: bool) -> tuple[Any, Any]:
        """The network of a graph, and the parser, which owns its weights.

        Raises:
            InputError: the parser refuses the graph.
        """
        trt, log = self._trt, self._log
        network = builder.create_network(int(strongly) << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, log.logger)
        if not parser.parse_from_file(str(graph)):
            reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)]
            raise self._failure(
                InputError(
                    f"TensorRT {trt.__version__} can't read {graph} ({reasons[0] if reasons else log.reason}); "
                    f"`edgeprune lint {graph}` says what it objects to; build the bundle again"
                ),
                f"TensorRT {trt.__version__} can't read {graph}",
            )
        return network, parser

    def _failure(self, error: EdgepruneError, what: str) -> EdgepruneError:
        """`error`, or the lack of memory that was its cause."""
        if not self._log.lacks_memory:
            return error
        return no_memory(what, free=self._cuda.free_bytes(), remedy=LEAVE_MEMORY)


def start(kind: Any, log: Log) -> Any:
    """A `Builder` or `Runtime`.

    Raises:
        RunError: the library can't start here; it then gives no object, which the bindings answer with a TypeError.
    """
    log.listen()
    try:
        return kind(log.logger)
    except TypeError as error:
        raise RunError(
            f"TensorRT can't start ({log.reason}); is the driver of this GPU the one that it was made for? "
            "`edgeprune doctor` says what is here"
        ) from error


def trtexec_command(graph: Path) -> str:
    """The command that builds a graph's plan with NVIDIA's own tool. TensorRT 11 takes `--stronglyTyped` and ignores it."""
    return (
        f"trtexec --onnx={graph} --saveEngine={graph.stem}.plan --stronglyTyped --noTF32 "
        f"--memPoolSize=workspace:{workspace_mb()}M"
    )


def _monitor(trt: Any, name: str) -> Any:
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
                logger.info(f"{name}: {phase_name} {step + 1}/{self.steps.get(phase_name, 0)}, {now - begin:.0f} s")
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
