"""A graph that is tied once to the tensors that it reads and writes, so that running it copies nothing but what comes from the
host and goes back to it."""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from edgeprune.bundle.memory import DUE

UInt8 = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]
# What a graph answers, by name, as its task's head has it; copies of their own, ids in uint8. Of the semantic task `labels`,
# class ids (H, W) at the bundle's label size. `runtime/tasks` knows what to make of them.
Outputs = Mapping[str, Array]

FRAME, COUNT, SCORES = "frame", "count", "scores"
HOST_INPUTS = (FRAME, DUE)  # of a graph that reads the others where another graph left them
TOKEN_SCORES = "token_scores"  # what a trunk calls its SCORES where an answer has that name


class HostInput(NamedTuple):
    """The shape and type of an input that the host gives at each run."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Bound(Protocol):
    """A graph and its tensors."""

    @property
    def inputs(self) -> Mapping[str, HostInput]:
        """Those that no other graph gives, by name, such as `frame`: (H, W, 3) uint8."""

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The engine's own tensor of every output, by name: another graph can be bound to them."""

    def again(self, state: Mapping[str, Any], written: Mapping[str, Any]) -> "Bound":
        """The same graph, opened once, tied to other tensors; see `Engine.bind`. Each is closed by itself."""

    def run(self, given: Mapping[str, Array]) -> None:
        """Runs the graph; `outputs` hold the result until the next run. `given`: `inputs`, of their shapes and types."""

    def read(self, name: str) -> Array:
        """A copy of an output."""

    def describe(self) -> dict[str, Any]:
        """`engine`, `version`, `provider`, `provider_asked`, `thread_policy`: see `Session.describe`."""

    def close(self) -> None:
        """Gives back what it took; raises nothing, twice is no error."""


def scores_of(outputs: Collection[str]) -> str | None:
    """What the scores of the first decision are called among a trunk's outputs; None: nothing is gated."""
    return trunk_scores(outputs) if COUNT in outputs else None


def trunk_scores(outputs: Collection[str]) -> str | None:
    """What scores are called among these outputs."""
    return next((name for name in (TOKEN_SCORES, SCORES) if name in outputs), None)


def answers(outputs: Collection[str]) -> list[str]:
    """Those of a graph's outputs that a task knows; a trunk's, beside `count`, are for its tails alone."""
    return [] if COUNT in outputs else list(outputs)
