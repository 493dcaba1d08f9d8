"""Torch-TensorRT as a second way from a model to TensorRT's plans, on discrete GPUs and Thor: a cross-check of what the ONNX
graphs give there. Each bucket's exported program becomes one serialized engine, which goes to this machine's cache under
the ONNX graph that says the same, and is run by the TensorRT engine without torch.

FP16 and FP32 alone: Torch-TensorRT documents no route for NNCF's quantizers. Types are the program's own (explicit
typing): in FP16 linear layers, convolutions and the attention products, in FP32 norms, gates, the residual stream. Labels
leave an engine in INT32, for it has no converter of a cast to UINT8 (`to_copy_dtype_validator` in its
aten_ops_converters.py); the session that runs the engine makes them UINT8. Inputs of an engine are named as the program's
placeholders, outputs `output0`, `output1` ... (Torch-TensorRT, "Naming Engine Bindings"), so the plan carries what they are
called here.

Documented, never yet run: see docs/jetson.md.
"""

import copy
import inspect
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.base.device import workspace_mb
from edgeprune.base.errors import InputError, RunError
from edgeprune.bundle import Bundle
from edgeprune.bundle.target import Target
from edgeprune.data.region import Region
from edgeprune.export.graphs import DenseGraph, TailGraph, TrunkGraph, blank_frame, trunk_outputs
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.spec import reference_and_export_models
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines.bound import COUNT, FRAME
from edgeprune.runtime.engines.engine import import_library
from edgeprune.runtime.engines.trt_runtime import open_runtime

logger = logging.getLogger(__name__)

NAME = "torch-tensorrt"
DIALECT = "torch-tensorrt"  # of `to_outputs`
DEVICE = "cuda"
PRECISIONS = ("fp16", "fp32")
IN_FP16 = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
IN_FP32 = (nn.LayerNorm, nn.BatchNorm2d, nn.GroupNorm)


@dataclass(frozen=True)
class Program:
    """A graph module with examples of its inputs, and what its inputs and outputs are called in a bundle."""

    module: nn.Module
    inputs: tuple[Tensor, ...]
    names_in: Sequence[str]
    names_out: Sequence[str]


def load_torch_tensorrt() -> Any:
    """The library.

    Raises:
        InputError: it isn't here.
    """
    return import_library(
        "torch_tensorrt", "Torch-TensorRT", "on a machine with an NVIDIA GPU: pip install 'edgeprune[tensorrt]'"
    )


def check_builder(target: Target, precisions: Sequence[str]) -> None:
    """Says what is missing before anything is built.

    Raises:
        InputError: another engine's target, no precision that can be built, no library, no GPU.
    """
    if target.engine != "tensorrt":
        raise InputError(
            f"--builder {NAME} builds TensorRT engines, target {target.name} runs {target.engine}; leave it out"
        )
    if not set(precisions) & set(PRECISIONS):
        raise InputError(f"--builder {NAME} builds {' and '.join(PRECISIONS)}, not {', '.join(precisions)}")
    load_torch_tensorrt()
    open_runtime()
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"--builder {NAME} needs torch with CUDA and a GPU that it sees; leave it out, or install that torch"
        )


def build_plans(inputs: BuildInputs, bundle: Bundle) -> list[Path]:
    """Puts the plans of a bundle, built a moment ago from `inputs`, into this machine's cache.

    Returns:
        the plans.

    Raises:
        InputError: the library is missing.
        RunError: Torch-TensorRT can't convert a program.
    """
    model, _ = load(inputs.checkpoint, inputs.size)
    model.head.with_confidence = inputs.confidence
    model.restrict(Region.of(bundle.manifest.region))
    written = []
    for precision in (each for each in bundle.manifest.precisions if each in PRECISIONS):
        thresholds = inputs.calib.thresholds_of(precision) if inputs.calib else []
        graphs = bundle.graphs(precision)
        for name, program in programs(model, bundle, precision, thresholds).items():
            graph = bundle.path(graphs.tails.get(name, graphs.trunk))
            written.append(convert(program, graph))
    return written


def programs(model: Segmenter, bundle: Bundle, precision: str, thresholds: Sequence[float]) -> dict[str, Program]:
    """Trunk (`trunk`) and tails (by bucket) in one precision, on the GPU."""
    model, _ = reference_and_export_models(model, precision, "tensorrt")
    model = model.to(DEVICE)
    if precision == "fp16":
        model = type_fp16(model)
    frame_HW3 = blank_frame(model).to(DEVICE)
    if not model.policy.gated:
        dense = TypedTrunk(DenseGraph(model, len(model.blocks), DIALECT))
        return {"trunk": Program(dense, (frame_HW3,), [FRAME], model.head.outputs)}
    trunk = TypedTrunk(TrunkGraph(model, thresholds), state_fp16=precision == "fp16")
    with torch.no_grad():
        *state, _ = trunk(frame_HW3)
    names = trunk_outputs(model)
    found = {"trunk": Program(trunk, (frame_HW3,), [FRAME], [*names, COUNT])}
    for bucket in bundle.manifest.buckets:
        tail = FromState(TailGraph(model, bucket.counts, DIALECT))
        found[bucket.name] = Program(tail, tuple(state), names, model.head.outputs)
    return found


class TypedTrunk(nn.Module):
    """A graph of frames. `state_fp16`: tokens and skips leave it in FP16 and scores in FP32, as they do the ONNX graphs, whose
    plans may stand beside."""

    def __init__(self, graph: nn.Module, state_fp16: bool = False):
        super().__init__()
        self.inner, self.state_fp16 = graph, state_fp16  # `graph` is torch.fx's own name

    def forward(self, frame_HW3: Tensor) -> Any:
        found = self.inner(frame_HW3)
        if not self.state_fp16:
            return found
        *state, scores_N, count = found
        return *(each.half() for each in state), scores_N.float(), count


class FromState(nn.Module):
    """A tail whose tokens, the residual stream, go on in FP32."""

    def __init__(self, tail: nn.Module):
        super().__init__()
        self.inner = tail

    def forward(self, x_ND: Tensor, *skips_scores: Tensor) -> Any:
        return self.inner(x_ND.float(), *skips_scores)


def type_fp16(model: Segmenter) -> Segmenter:
    """A copy whose matrix products are typed FP16, norms and gates FP32; the residual stream stays FP32, the sum of both."""
    typed = copy.deepcopy(model)
    gates = set(typed.policy.modules())
    for module in typed.modules():
        if isinstance(module, IN_FP16) and module not in gates:
            module.half()
            module.register_forward_pre_hook(lambda module, inputs: (inputs[0].half(), *inputs[1:]))
        elif (isinstance(module, IN_FP32) or module in gates) and not list(module.children()):
            module.register_forward_pre_hook(lambda module, inputs: (inputs[0].float(), *inputs[1:]))
    return typed


def explicit_typing(convert: Callable[..., Any]) -> dict[str, bool]:
    """Asks for the program's own types. Newer versions have no setting for it, they do nothing else (Torch-TensorRT, "Compiling
    Exported Programs": `use_explicit_typing`, default True), and some of them refuse a keyword that they do not name."""
    named = "use_explicit_typing" in inspect.signature(convert).parameters
    return {"use_explicit_typing": True} if named else {}


def convert(program: Program, graph: Path) -> Path:
    """One program to the plan of one of the bundle's graphs."""
    library, plans = load_torch_tensorrt(), open_runtime().plans
    begin = time.monotonic()
    try:
        with torch.no_grad():
            exported = torch.export.export(program.module.eval(), program.inputs, strict=False)
        plan = library.dynamo.convert_exported_program_to_serialized_trt_engine(
            exported,
            arg_inputs=list(program.inputs),
            disable_tf32=True,
            workspace_size=workspace_mb() << 20,
            **explicit_typing(library.dynamo.convert_exported_program_to_serialized_trt_engine),
        )
    except Exception as error:  # its converters raise what they like
        reason = " ".join(str(error).split())[:300]
        raise RunError(
            f"Torch-TensorRT {library.__version__} can't convert {graph.stem} ({type(error).__name__}: {reason}); "
            "leave --builder out and run `edgeprune compile BUNDLE`"
        ) from error
    names = dict(zip(map(str, exported.graph_signature.user_inputs), program.names_in, strict=True))
    names |= {f"output{index}": name for index, name in enumerate(program.names_out)}
    seconds = time.monotonic() - begin
    logger.info(f"{graph.stem}: built by {NAME} in {seconds:.0f} s")
    return plans.store(graph, bytes(plan), seconds, {"builder": f"{NAME} {library.__version__}", "names": names})
