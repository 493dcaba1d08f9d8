"""The graphs of a bundle that are measured, and what each of them answers to a frame.

Shapes: H W pixels.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.bundle import DENSE, BucketEntry, Bundle
from edgeprune.bundle.onnx_files import computes_int8
from edgeprune.runtime.choose import in_frame
from edgeprune.runtime.engines import Session
from edgeprune.runtime.engines.engine import Engine, Outputs, UInt8
from edgeprune.runtime.engines.session import Graph

logger = logging.getLogger(__name__)

AUTO = "auto"  # the bucket of the choice that a run makes


@dataclass(frozen=True)
class GraphSelection:
    """Which graphs are measured beside dense FP32.

    Attributes:
        precisions: those of the bundle whose buckets are measured; None: all.
        baselines: single graphs of other making, in INT8 or not, frame -> outputs; a row each by the name of the file.
        threads: of the engine; None: the target's.
    """

    precisions: Sequence[str] | None = None
    baselines: Sequence[Path] = ()
    threads: int | None = None


ALL_GRAPHS = GraphSelection()


def precision_of(graph: Path) -> str:
    """What a graph of other making computes in: `int8` where one of its operators does, else `fp32`.

    Raises:
        InputError: it is no whole ONNX graph.
    """
    return "int8" if computes_int8(graph) else "fp32"


@dataclass(frozen=True)
class Answer:
    """What one graph says of a frame.

    Attributes:
        bucket: of a bucket its name; `dense`, `auto`, or a baseline's file name without its extension.
        tokens: processed, summed over the blocks.
        chosen: the bucket that `auto` took; None: the answer is not of `auto`.
    """

    bucket: str
    precision: str
    tokens: int
    outputs: Outputs
    chosen: str | None = None


class BucketGraphs:
    """The buckets of one precision: the trunk runs once per frame, every tail on its state.

    `auto` takes the answer of the tail that `choose.in_frame` picks, which is the one that a run gives and shows.
    """

    def __init__(self, session: Session, precision: str, buckets: Sequence[BucketEntry]):
        self.session = session
        self._precision, self._buckets = precision, {bucket.name: bucket for bucket in buckets}
        self._choose = in_frame(buckets)

    def answers(self, frame_HW3: UInt8) -> Iterator[Answer]:
        """Every bucket, from the first to the last, then `auto`."""
        chosen = self._choose(self.session.start(frame_HW3))
        found = {
            name: Answer(name, self._precision, bucket.token_layers, self.session.finish(name))
            for name, bucket in self._buckets.items()
        }
        yield from found.values()
        yield Answer(AUTO, self._precision, found[chosen].tokens, found[chosen].outputs, chosen)


@dataclass(frozen=True)
class OpenGraphs:
    """Graphs that are open in one engine.

    Attributes:
        whole: dense FP32 and the baselines, by name and precision: every token through every block.
        all_tokens: of the dense model, summed over its blocks.
    """

    whole: Mapping[tuple[str, str], Graph]
    of_precisions: Sequence[BucketGraphs]
    all_tokens: int

    def answers(self, frame_HW3: UInt8) -> Iterator[Answer]:
        """Dense FP32, the baselines, then the buckets of each precision. The frame has the model's input size."""
        for (name, precision), graph in self.whole.items():
            yield Answer(name, precision, self.all_tokens, graph(frame_HW3))
        for graphs in self.of_precisions:
            yield from graphs.answers(frame_HW3)

    def describe(self) -> dict[str, Any]:
        """The engine, as `Session.describe` has it."""
        return self.of_precisions[0].session.describe()


@contextmanager
def open_graphs(bundle: Bundle, engine: Engine, graphs: GraphSelection) -> Iterator[OpenGraphs]:
    """Opens graphs, and closes them at the end of the block. Buckets that can't be opened here (`Engine.able`) are said.

    Raises:
        InputError: an unknown precision, or a graph that the engine can't open.
    """
    manifest = bundle.manifest
    threads = graphs.threads or manifest.target.threads
    with ExitStack() as stack:
        paths = {(DENSE, "fp32"): bundle.path(manifest.dense)}
        paths |= {(path.stem, precision_of(path)): path for path in graphs.baselines}
        whole = {key: stack.enter_context(closing(engine.open_graph(path, threads))) for key, path in paths.items()}
        of_precisions = []
        for precision in graphs.precisions or manifest.graphs:
            able, lines = engine.able(bundle, precision)
            for line in lines:
                logger.warning(line)
            session = stack.enter_context(closing(engine.open(bundle, precision, able, threads)))
            buckets = [bucket for bucket in manifest.buckets if bucket.name in able]
            of_precisions.append(BucketGraphs(session, precision, buckets))
        yield OpenGraphs(whole, of_precisions, manifest.depth * manifest.tokens)
