"""Builds TensorRT's plans of graphs; `plans` keeps them.

Networks are strongly typed: the types are the graph's, and no precision flag is set. TensorRT 10 needs a flag for that, 11 does
nothing else and ignores it, so that one path serves both; `weak_typing` is what is left where a TensorRT before 10.12 can't.
TF32 is off: it is on by default (NvInfer.h, `BuilderFlag::kTF32`), and would round what the graph keeps in FP32 to 10 bits of
mantissa.
"""

import logging
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.base.device import typing, workspace_mb
from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.base.files import write_atomic
from edgeprune.runtime.engines.cuda import Cuda
from edgeprune.runtime.engines.memory import no_memory
from edgeprune.runtime.engines.trt_log import Log, start
from edgeprune.runtime.engines.weak_typing import hold_types, types_in, typings

logger = logging.getLogger(__name__)

OLDEST = (10, 3)  # JetPack 6.1
SAY_EVERY_S = 10.0
LEAVE_MEMORY = (
    "stop other programs (on a Jetson the desktop: sudo systemctl isolate multi-user.target), or let kernels take less: "
    "EDGEPRUNE_WORKSPACE_MB=256"
)


def too_old(version: str) -> bool:
    """Whether a TensorRT of this version is older than what edgeprune builds for."""
    return _numbers(version) < OLDEST


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


@dataclass(frozen=True)
class Built:
    """A plan, the timing cache with what was timed for it and its file, `strong` or `weak`, and the seconds it took."""

    plan: bytes
    timing: bytes
    file: Path
    typing: str
    seconds: float


class PlanBuilder:
    """Builds plans for the GPU of this process.

    Args:
        trt: the `tensorrt` module.
        log: the logger of this process.
        timing: the file of the timing cache, which spares a build what an earlier one has timed; asked for at each build, as
            the power mode may be another.
    """

    def __init__(self, trt: Any, cuda: Cuda, log: Log, timing: Callable[[], Path]):
        self._trt, self._cuda, self._log, self._timing = trt, cuda, log, timing

    def check(self) -> None:
        """Says what is wrong with the settings of this process before minutes are spent.

        Raises:
            InputError: a setting is none, or this TensorRT can't build so.
        """
        typings(_numbers(self._trt.__version__), typing())
        workspace_mb()

    def forget_times(self) -> None:
        """Lets everything be timed anew: what is in the timing cache is not timed again, whatever the clocks are by now."""
        self._timing().unlink(missing_ok=True)

    def build(self, graph: Path) -> Built:
        """Builds a graph's plan; takes minutes. `keep_times` and `Plans.store` keep what it gives.

        Raises:
            InputError: the parser refuses the graph.
            RunError: TensorRT can't build it, or has no memory for it.
        """
        begin = time.monotonic()
        file = self._timing()
        timing = file.read_bytes() if file.is_file() else b""
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
            return Built(plan, timed, file, how, time.monotonic() - begin)
        raise failures[0] if len(failures) == 1 else type(failures[0])(f"{failures[0]}; weakly typed: {failures[1]}")

    def keep_times(self, built: Built) -> None:
        """Puts what was timed into the timing cache, which the next build begins with.

        Raises:
            InputError: it can't be written to.
            RunError: the disk is full.
        """
        with write_atomic(built.file, "compiled engine", shared=True) as partial:
            partial.write_bytes(built.timing)

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


def trtexec_command(graph: Path) -> str:
    """The command that builds a graph's plan with NVIDIA's own tool. TensorRT 11 takes `--stronglyTyped` and ignores it."""
    words = ("trtexec", f"--onnx={graph}", f"--saveEngine={graph.stem}.plan", "--stronglyTyped", "--noTF32")
    return shlex.join((*words, f"--memPoolSize=workspace:{workspace_mb()}M"))


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
