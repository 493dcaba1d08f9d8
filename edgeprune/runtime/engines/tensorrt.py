"""TensorRT on the device, from plans that were compiled there (see `plans`); with the `tensorrt` that JetPack brings.

Documented, never yet run on a Jetson: see docs/jetson.md.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from edgeprune.base.errors import EdgepruneError
from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import STILL, StateTensor
from edgeprune.runtime.engines.engine import Engine
from edgeprune.runtime.engines.memory import MB, fitting, no_memory
from edgeprune.runtime.engines.trt_bound import TensorRtBound
from edgeprune.runtime.engines.trt_runtime import open_runtime
from edgeprune.runtime.engines.trt_tensors import hold_zeros

logger = logging.getLogger(__name__)


class TensorRt(Engine):
    """TensorRT on this device's GPU, from the plans in its cache."""

    takes_threads = False
    remembers = True

    def check(self) -> None:
        open_runtime()

    def prepare(self, graphs: Sequence[Path], again: bool = False) -> dict[Path, EdgepruneError]:
        plans, builder = open_runtime().plans, open_runtime().builder
        missing = [graph for graph in graphs if again or not plans.has(graph)]
        failed: dict[Path, EdgepruneError] = {}
        if missing:
            plans.check(missing)
            builder.check()
            logger.info(f"compiles {len(missing)} graphs for this device into {plans.folder}; minutes each, once")
        if again:
            builder.forget_times()
        for done, graph in enumerate(missing, 1):
            try:
                built = builder.build(graph)
            except EdgepruneError as error:
                failed[graph] = error
                logger.warning(f"{graph.stem}: {error} ({done} of {len(missing)})")
                continue
            builder.keep_times(built)
            plans.store(graph, built.plan, built.seconds, {"typing": built.typing})
            logger.info(f"{graph.stem}: compiled in {built.seconds:.0f} s ({done} of {len(missing)})")
        if warning := next(filter(None, map(plans.other_power_mode, graphs)), None):
            logger.warning(warning)
        return failed

    def compiled(self, graph: Path) -> dict[str, Any] | None:
        return open_runtime().plans.about(graph)

    def able(self, bundle: Bundle, precision: str, beside: Sequence[Path] = ()) -> tuple[list[str], list[str]]:
        """The buckets that are compiled and that memory holds together: each tail's plan has its own weights. Plans may take
        `$EDGEPRUNE_MEMORY_MB`, else three quarters of what is free; the rest is for activations.

        Raises:
            InputError: the trunk or the last bucket is not compiled.
        """
        runtime, graphs = open_runtime(), bundle.graphs(precision)
        names, lines = super().able(bundle, precision)
        if not graphs.tails:
            return names, lines
        still = [name for name in names if name == STILL]  # it has no graph
        trunk = bundle.path(graphs.trunk)
        tails = {name: bundle.path(graphs.tails[name]) for name in names if name != STILL}
        for path in (trunk, tails[names[-1]]):
            runtime.plans.read(path)
        compiled = [name for name, path in tails.items() if runtime.plans.has(path)]
        if absent := [name for name in tails if name not in compiled]:
            lines.append(f"{', '.join(absent)}: left out in {precision}, not compiled for this device")
        sizes = {name: runtime.plans.size(tails[name]) for name in compiled}
        limit, taken = runtime.memory_limit(), sum(map(runtime.plans.size, (trunk, *beside)))
        kept = fitting(sizes, taken, limit)
        if not kept:
            needed = taken + sizes[compiled[-1]]
            raise no_memory(f"trunk and bucket {compiled[-1]} in {precision} can't be opened", needed, limit)
        if large := [name for name in compiled if name not in kept]:
            total = taken + sum(sizes.values())
            lines.append(
                f"{', '.join(large)}: left out in {precision}, all buckets take {total / MB:,.0f} MB together and "
                f"{limit / MB:,.0f} may be taken (EDGEPRUNE_MEMORY_MB, else three quarters of what is free)"
            )
        return [*still, *kept], lines

    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> TensorRtBound:
        return TensorRtBound(open_runtime(), path, state, written)

    def hold(self, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, Any]:
        return hold_zeros(open_runtime(), tensors, held)
