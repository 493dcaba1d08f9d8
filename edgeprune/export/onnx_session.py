"""A graph in ONNX Runtime on the CPU, fed and read by names: what a build asks its own graphs with."""

from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import onnx

from edgeprune.runtime.engines.onnxruntime import open_session

Tensors = dict[str, npt.NDArray[Any]]


class OnnxSession:
    """One graph, opened.

    Args:
        proto: whole, its constants within.
        threads: of an operator.
    """

    def __init__(self, proto: onnx.ModelProto, threads: int):
        self._session = open_session(proto.SerializeToString(), threads)
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    def run(self, feeds: Mapping[str, npt.NDArray[Any]]) -> Tensors:
        """All outputs by name. `feeds` may hold more than the graph takes: the trunk's whole state."""
        values = self._session.run(None, {name: feeds[name] for name in self._inputs})
        return dict(zip(self._outputs, values, strict=True))
