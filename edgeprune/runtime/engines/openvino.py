"""OpenVINO on the CPU, on the bundle's own ONNX files. State between trunk and tail stays in arrays that both use.

`OpenVino("f32")` computes what the graph says. `OpenVino("bf16")` lets OpenVINO do in bfloat16 what is not INT8: the
attention products above all, which cost most once the linears are INT8. It needs a CPU with AVX-512 bf16 or AMX. There the keys
and values that a frame leaves for the next are kept in bfloat16 too, which is what such a graph computes them in: in FP32 they
would be turned into bfloat16 and back, whole, in every frame.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError, choose
from edgeprune.bundle.memory import StateTensor
from edgeprune.runtime.engines.bound import HOST_INPUTS, Array, HostInput
from edgeprune.runtime.engines.engine import Engine, import_library
from edgeprune.runtime.engines.malloc import keep_freed_memory
from edgeprune.runtime.engines.memory import free_host_bytes, lacks_memory, no_memory, saying_memory
from edgeprune.runtime.engines.openvino_argmax import reduce_argmax

NAME = "openvino"
DEVICE = "CPU"
BFLOAT16 = np.dtype(np.uint16)  # NumPy has no bfloat16: an array of these holds the bits
CACHES = ("keys", "values")  # how those tensors of a state are called that a graph attends to


def load_openvino() -> Any:
    """The library.

    Raises:
        InputError: it isn't installed.
    """
    return import_library("openvino", "OpenVINO", "pip install 'edgeprune[openvino]'")


@cache
def the_core(kind: Any) -> Any:
    """OpenVINO's `Core` (`kind`), one in a process and never given back.

    The first thing its CPU plug-in does is to set a stack of its own for signals; when it goes it sets back the one before, and
    unmaps its own. So of two that go in the order in which they came the second one sets back a stack that is unmapped (seen
    with 2026.4.1), and the kernel writes the next signal's frame over whatever lies there by then, such as a batch that a
    worker handed over just before it ended.
    """
    return kind()


class OpenVino(Engine):
    """OpenVINO on the CPU in one precision.

    Args:
        hint: OpenVINO's inference precision, `f32` or `bf16`.
    """

    remembers = True

    def __init__(self, hint: str):
        self.hint = hint
        self.name = NAME if hint == "f32" else f"{NAME}-{hint}"

    def check(self) -> None:
        self._core()

    def _core(self) -> Any:
        """OpenVINO's `Core`.

        Raises:
            InputError: the library is missing, or this CPU has no such precision.
        """
        with saying_memory("OpenVINO can't be loaded"):
            core = the_core(load_openvino().Core)
            keep_freed_memory()
            able = core.get_property(DEVICE, "OPTIMIZATION_CAPABILITIES")
        if self.hint == "bf16" and "BF16" not in able:
            raise InputError(
                f"{self.name}: this CPU does not compute in bf16 (OpenVINO finds {', '.join(able)}); use engine {NAME}"
            )
        return core

    def bind(
        self,
        path: Path,
        threads: int,
        state: Mapping[str, Any] | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> "OpenVinoBound":
        halves = {name for name, array in {**(state or {}), **(written or {})}.items() if array.dtype == BFLOAT16}
        compiled = self.compile(path, threads, halves)
        with saying_memory(f"{self.name} can't open {path}"):
            return OpenVinoBound(self.name, compiled, state, written)

    def hold(self, tensors: Sequence[StateTensor], held: ExitStack) -> Mapping[str, Any]:
        with saying_memory(f"{self.name} can't hold what a frame leaves for the next"):
            arrays = {tensor.name: np.zeros(tensor.shape, self._held_as(tensor)) for tensor in tensors}
        held.callback(arrays.clear)
        return arrays

    def held_bytes(self, tensor: StateTensor) -> int:
        return math.prod(tensor.shape) * self._held_as(tensor).itemsize

    def _held_as(self, tensor: StateTensor) -> np.dtype[Any]:
        """What an array of it has elements of."""
        return BFLOAT16 if self.hint == "bf16" and tensor.name.startswith(CACHES) else np.dtype(tensor.type)

    def compile(self, path: Path, threads: int, halves: Collection[str] = ()) -> Any:
        """A compiled model.

        Args:
            halves: inputs and outputs that are given in bfloat16, whatever the file says.

        Raises:
            InputError: the library is missing, it can't read the file, or this CPU has no such precision.
            RunError: there is no memory for it.
        """
        library, core = load_openvino(), self._core()
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": "1",
            "INFERENCE_NUM_THREADS": str(threads),
            "INFERENCE_PRECISION_HINT": self.hint,
        }
        try:
            model = core.read_model(str(path))
            if self.hint == "f32":
                reduce_argmax(model)
            model = _given_in_bf16(model, halves)
            return core.compile_model(model, DEVICE, settings)
        except Exception as error:  # its own exceptions share no base but this one
            reason = " ".join(str(error).split())
            if lacks_memory(error):
                raise no_memory(f"{NAME} {library.__version__} can't open {path}", free=free_host_bytes()) from error
            raise InputError(
                f"{NAME} {library.__version__} can't read {path} ({reason[:300]}); copy or build the bundle again"
            ) from error


def _given_in_bf16(model: Any, names: Collection[str]) -> Any:
    """The model with inputs and outputs of these names in bfloat16; its own conversions take them up."""
    library, ports = load_openvino(), (*model.inputs, *model.outputs)
    if not any(port.get_names() & set(names) for port in ports):
        return model
    steps = library.preprocess.PrePostProcessor(model)
    for at, each in ((steps.input, model.inputs), (steps.output, model.outputs)):
        for number, port in enumerate(each):
            if port.get_names() & set(names):
                at(number).tensor().set_element_type(library.Type.bf16)
    return steps.build()


class OpenVinoBound:
    """A graph whose tensors are arrays of ours, set once on an inference request."""

    def __init__(
        self, name: str, compiled: Any, state: Mapping[str, Array] | None, written: Mapping[str, Array] | None
    ):
        self._name, self._compiled = name, compiled
        self._request = compiled.create_infer_request()
        self.outputs: dict[str, Array] = {}
        self._given: dict[str, Array] = {}
        for port in (*compiled.inputs, *compiled.outputs):
            if port.partial_shape.is_dynamic:
                raise InputError(
                    f"{port.get_any_name()} of a graph is {port.partial_shape}; constant sizes are expected, export it with "
                    "them"
                )
        for port in compiled.inputs:
            name = port.get_any_name()
            if state is None or (written is not None and name in HOST_INPUTS):
                # a buffer of ours: it takes no read-only memory, which is what a decoder or an image library may give
                self._given[name] = array = np.empty(tuple(port.shape), port.element_type.to_dtype())
            else:
                array = choose(state, name, "input of a tail:")
            self._tie(port, array)
        for port in compiled.outputs:
            kept = next((written[name] for name in port.get_names() if name in written), None) if written else None
            array = np.zeros(port.shape, port.element_type.to_dtype()) if kept is None else kept
            self._tie(port, array)
            if kept is None:
                self.outputs |= dict.fromkeys(port.get_names(), array)

    def _tie(self, port: Any, array: Array) -> None:
        """Has the request read or write an array of ours."""
        library = load_openvino()
        # its optimizer may drop a Reshape before an output, but not the order of its elements
        same = array.dtype == BFLOAT16 or array.dtype == port.element_type.to_dtype()
        if array.size != math.prod(port.shape) or not same:
            raise InputError(
                f"{port.get_any_name()} of a graph is {port.element_type.get_type_name()} {tuple(port.shape)}, what the bundle "
                f"says of it {array.dtype} {array.shape}; build the bundle again"
            )
        shaped = array.reshape(port.shape)
        if array.dtype == BFLOAT16:
            tensor = library.Tensor(shaped, port.shape, library.Type.bf16)
        else:
            tensor = library.Tensor(shaped, shared_memory=True)
        self._request.set_tensor(port, tensor)

    def again(self, state: Mapping[str, Array], written: Mapping[str, Array]) -> "OpenVinoBound":
        return OpenVinoBound(self._name, self._compiled, state, written)

    @property
    def inputs(self) -> dict[str, HostInput]:
        return {name: HostInput(array.shape, array.dtype) for name, array in self._given.items()}

    def run(self, given: Mapping[str, Array]) -> None:
        for name, array in given.items():
            assert array.shape == self._given[name].shape, array.shape  # a copy would broadcast it
            np.copyto(self._given[name], array)
        with saying_memory(f"{self._name} can't run a graph"):
            self._request.infer()

    def close(self) -> None:
        self.outputs.clear()
        self._given.clear()
        self._request = self._compiled = None

    def read(self, name: str) -> Array:
        return self.outputs[name].copy()

    def describe(self) -> dict[str, Any]:
        """Where and in what precision it really runs."""
        devices = self._compiled.get_property("EXECUTION_DEVICES")
        return {
            "engine": self._name,
            "version": load_openvino().__version__,
            "provider": ", ".join(devices) if isinstance(devices, list) else str(devices),
            "provider_asked": DEVICE,
            "inference_precision": str(self._compiled.get_property("INFERENCE_PRECISION_HINT")),
            "thread_policy": "one stream; its threads sleep between two runs",
        }
