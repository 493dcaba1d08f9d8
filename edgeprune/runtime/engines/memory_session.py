"""A session of graphs that remember: each frame computes the tokens that changed, and leaves a state for the next.

Where an engine can't write a row of a tensor that it reads, there are two sets of the state, which a frame exchanges: it reads
one and writes the other, and nothing is copied; a frame that fails on its way leaves the old one whole. With one set it leaves
half of a state, and the next frame is computed whole.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle import Bundle
from edgeprune.bundle.memory import DUE, NEW, STILL, group_tokens, phases
from edgeprune.runtime.changed import Changed, count_changed, is_slight
from edgeprune.runtime.choose import WAITING
from edgeprune.runtime.engines.bound import FRAME, Array, Bound, Outputs, UInt8, trunk_scores
from edgeprune.runtime.engines.session import WARM_UP_RUNS, Session, describe_graph, grey_frame, read_answer
from edgeprune.runtime.remembered_tokens import RememberedTokens

if TYPE_CHECKING:
    from edgeprune.runtime.engines.engine import Engine


ENOUGH = 0.8  # of the tokens that changed: a frame that computes so many leaves the rest, which changed the least, to the next


class MemorySession(Session):
    """The graphs of a bundle's memory in one precision. `start` and `finish` as of `Session`; the bucket STILL has no graph and
    answers as the frame before was answered.

    Tokens have their turn by phases: those whose turn has come wait until a bucket other than STILL computes them, the longest
    waiting first. STILL is chosen until the second smallest bucket is filled by them.

    Attributes:
        found: of the last frame that was begun, how many tokens of each group changed and how many have their turn.
        waits: see `Session`: where all that changed did so slightly, and the frame before left nothing out.
    """

    def __init__(self, engine: "Engine", bundle: Bundle, precision: str, buckets: Sequence[str] | None, threads: int):
        memory = bundle.manifest.memory
        assert memory is not None  # `with_memory`
        graphs = bundle.graphs(precision)
        names = [bucket.name for bucket in memory.buckets]
        opened = names if buckets is None else [bundle.bucket(name).name for name in buckets]
        self._whole = names[-1]
        opened = [name for name in dict.fromkeys([*opened, self._whole]) if name != STILL]
        self._precision, self._threads, self._memory = precision, threads, memory
        self._counts = {bucket.name: bucket.first for bucket in memory.buckets}
        self._tokens = bundle.manifest.tokens
        self._tokens_GM = group_tokens(bundle.manifest.grid, memory.groups)
        phase_GM = phases(self._tokens_GM, memory.refresh)[self._tokens_GM]
        self._phases = np.bincount(phase_GM[0], minlength=memory.refresh)  # the same of each group
        self._patience = memory.buckets[min(2, len(names) - 1)].first
        with ExitStack() as held:
            sides = 1 if engine.writes_in_place else 2
            self._sets = [engine.hold(memory.state[precision], held) for _ in range(sides)]
            self._bytes = sides * sum(engine.held_bytes(tensor) for tensor in memory.state[precision])
            self._trunks = _bind_sides(engine, bundle, graphs.trunk, threads, held, self._sets, None)
            if DUE not in self._trunks[0].inputs:
                raise InputError(f"{graphs.trunk} of {bundle.folder} remembers nothing; copy or build the bundle again")
            self._bound = {
                name: _bind_sides(
                    engine,
                    bundle,
                    choose(graphs.tails, name, "bucket"),
                    threads,
                    held,
                    self._sets,
                    [trunk.outputs for trunk in self._trunks],
                )
                for name in opened
            }
            self._tails = {name: each[0] for name, each in self._bound.items()}
            self._trunk, self._side = self._trunks[0], 0
            self.reset()
            grey_HW3 = grey_frame(self._trunk)
            for name in [self._whole, *self._bound]:
                for _ in range(WARM_UP_RUNS * sides):  # sides take turns: each runs as often
                    self.start(grey_HW3)
                    self.finish(name)
            self.reset()
            self._held = held.pop_all()

    def reset(self) -> None:
        """Forgets the frames before: the next one is computed whole."""
        self._first = self._pending = 0
        self.found, self._left_out, self.waits = [Changed(0, 0)], False, False
        self.remembered = None
        self._answer: Mapping[str, Array] | None = None

    @property
    def waiting(self) -> tuple[int, int]:
        """The phase that has waited longest for its turn, and how many phases wait."""
        return self._first, self._pending

    def bucket_of(self, chosen: str) -> str:
        return chosen if self._answer is not None else self._whole

    def start(self, frame_HW3: UInt8) -> int:
        """Runs the trunk.

        Returns:
            How many tokens have to be computed: those whose turn it is, and ENOUGH of those that changed, or all of them where
            the frame before left some out, as many of each group as of the one that needs the most; 0 where none changed and
            few have their turn.
        """
        self.waits = False
        self._pending = min(self._pending + 1, self._memory.refresh)
        self._trunk = self._trunks[self._side]
        self._trunk.run({FRAME: frame_HW3, DUE: np.array(self.waiting, np.float32)})
        if self._answer is None:
            return self._tokens
        scores_N = self.scores()
        self.found = count_changed(scores_N, self._tokens_GM)
        has_changed, due = any(of.changed for of in self.found), sum(of.due for of in self.found)
        if not has_changed and due < self._patience:
            return 0
        enough = 1.0 if self._left_out else ENOUGH
        count = len(self.found) * max(of.due + ceil(enough * of.changed) for of in self.found)
        few = due < self._patience and count <= WAITING * self._tokens
        self.waits = few and not self._left_out and is_slight(scores_N)
        return count

    def scores(self) -> Array:
        """A copy of the scores that the last `start()` left."""
        name = trunk_scores(self._trunk.outputs)
        assert name is not None  # every such trunk gives them
        return self._trunk.read(name)

    def finish(self, bucket: str) -> Outputs:
        """Runs the tail of a bucket, once for each `start`; where there is no state to go on from, that of all tokens.

        Raises:
            InputError: as `Session.finish`.
        """
        bucket = self.bucket_of(bucket)
        if bucket == STILL:
            self.remembered, self._left_out = RememberedTokens(0, self._tokens, 0), any(of.changed for of in self.found)
            return self._copy()
        tail = choose(self._bound, bucket, "bucket")[self._side]
        if len(self._sets) == 1:
            self._answer = None  # what fails from here on leaves no state
        tail.run({})
        self._answer = read_answer(tail)
        self._side = (self._side + 1) % len(self._sets)
        self.remembered = self._serve(self._counts[bucket])
        self._left_out = self.remembered.computed < len(self.found) * max(sum(of) for of in self.found)
        return self._copy()

    def _copy(self) -> Outputs:
        """What was answered last, as the caller's own."""
        assert self._answer is not None
        return {name: array.copy() for name, array in self._answer.items()}

    def _serve(self, computed: int) -> RememberedTokens:
        """So many tokens are computed, those whose turn it was first."""
        groups, refreshed = len(self._tokens_GM), 0
        while self._pending and computed >= refreshed + groups * self._phases[self._first]:
            refreshed += groups * int(self._phases[self._first])
            self._first, self._pending = (self._first + 1) % self._memory.refresh, self._pending - 1
        return RememberedTokens(computed, self._tokens - computed, refreshed)

    def describe(self) -> dict[str, Any]:
        found = describe_graph(self._trunk, self._threads) | {"precision": self._precision}
        return found | {"memory_mb": round(self._bytes / 1e6, 1)}

    def close(self) -> None:
        self._bound.clear()
        super().close()


def _bind_sides(
    engine: "Engine",
    bundle: Bundle,
    graph: str,
    threads: int,
    held: ExitStack,
    sets: Sequence[Mapping[str, Any]],
    trunks: Sequence[Mapping[str, Any]] | None,
) -> list[Bound]:
    """A graph for each side: it reads the state of one set and writes that of the next.

    Args:
        trunks: outputs of the trunk of each side.
    """
    sides: list[Bound] = []
    for side, kept in enumerate(sets):
        state = {**kept, **(trunks[side] if trunks else {})}
        written = {f"{NEW}{name}": tensor for name, tensor in sets[(side + 1) % len(sets)].items()}
        bound = sides[0].again(state, written) if sides else engine.bind(bundle.path(graph), threads, state, written)
        held.callback(bound.close)
        sides.append(bound)
    return sides
