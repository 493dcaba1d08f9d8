"""What is to be built: the models, the buckets, the frames that hold graphs to them. Whatever does not fit is refused here,
before anything is exported.

Shapes: F frames or calibration frames, H W pixels, G gates.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

from edgeprune.base.errors import InputError
from edgeprune.bundle import PRECISIONS
from edgeprune.bundle.target import Target
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Region
from edgeprune.export.family import place_buckets
from edgeprune.export.inputs import BuildInputs, UInt8, frames_for_parity
from edgeprune.export.int8 import fold_linears, unquantize_linears
from edgeprune.model.card import Card
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines.fp16_rounded import check_rounding


@dataclass(frozen=True, eq=False)
class BuildSpec:
    """Everything that the steps of a build read.

    Attributes:
        target: the device.
        precisions: of the target's, those that are built, in order.
        inputs: where the rest comes from.
        card: of the checkpoint.
        model: its network.
        dense: the dense FP32 reference.
        buckets: from small to large.
        frames_FHW3: on which graphs are compared with PyTorch.
        frames_from: what they are.
    """

    target: Target
    precisions: Sequence[str]
    inputs: BuildInputs
    card: Card
    model: Segmenter
    dense: Segmenter
    buckets: Sequence[Bucket]
    frames_FHW3: UInt8
    frames_from: str

    def thresholds(self, precision: str) -> list[float]:
        """Of each gate, in graphs of that precision; none without a calibration."""
        return self.inputs.calib.thresholds_of(precision) if self.inputs.calib else []

    def is_in_fp16(self, precision: str) -> bool:
        """Whether graphs of that precision compute in FP16 what they do not compute in INT8."""
        beside = self.target.beside_int8 if PRECISIONS[precision].quantized else precision
        return beside == "fp16"


def describe_build(target: Target, inputs: BuildInputs, precisions: Sequence[str]) -> BuildSpec:
    """Reads the inputs, checks them against each other, and places the buckets.

    Raises:
        InputError: the checkpoint, the calibration or the target don't fit each other.
    """
    if "fp16" in (*precisions, target.beside_int8):
        check_rounding()  # parity would be FP32's
    model, card = load(inputs.checkpoint, inputs.size)
    if model.policy.not_exportable:
        raise InputError(f"policy {card.policy.name} has no graph of constant shapes: {model.policy.not_exportable}")
    dense = load_dense(inputs, model)
    for each in (model, dense):
        each.head.with_confidence = inputs.confidence
    if inputs.confidence and "confidence" not in model.head.outputs:
        raise InputError(
            f"task {card.model.task} has no confidence beside its {', '.join(model.head.outputs)}; leave --confidence out"
        )
    if any(PRECISIONS[each].quantized for each in precisions) and not any(True for _ in quantized_linears(model)):
        raise InputError(
            f"{inputs.checkpoint} has no quantization scales; train a qat phase or build with --precision fp32"
        )
    _restrict(model, inputs)
    occupancy_FG = None
    if model.policy.gated:
        if inputs.calib is None:
            raise InputError(
                f"no calibration for {card.name}: gate thresholds are measured on frames; "
                f"run `edgeprune calibrate {inputs.checkpoint} --camera CAMERA`, or `--data DATA`"
            )
        check_calib(inputs.calib, model, precisions)
        occupancy_FG = inputs.calib.placing
    buckets = place_buckets(model.policy.schedule, target.buckets, occupancy_FG)
    frames_FHW3, frames_from = frames_for_parity(inputs.calib, Preprocess.of(model.spec))
    return BuildSpec(target, precisions, inputs, card, model, dense, buckets, frames_FHW3, frames_from)


def _restrict(model: Segmenter, inputs: BuildInputs) -> None:
    """Restricts the model to the calibration's region, where it has one. Raises InputError where that is of another grid."""
    calib = inputs.calib
    region = Region.of(calib.region) if calib else None
    if calib and region and region.grid != model.grid:
        size = f" at --size {inputs.size[0]}x{inputs.size[1]}" if inputs.size else ""
        then = "leave --size out" if size else f"run `edgeprune calibrate {inputs.checkpoint} --region MASK` again"
        raise InputError(
            f"calibration of {calib.model} on {calib.data}: its region has {region.grid[0]}x{region.grid[1]} patches, "
            f"{inputs.checkpoint} has {model.grid[0]}x{model.grid[1]}{size}; {then}"
        )
    model.restrict(region)


def check_calib(calib: Calib, model: Segmenter, precisions: Sequence[str]) -> None:
    """Refuses a calibration whose numbers are not those of the model's gates."""
    gates = len(model.policy.gated)
    for precision in precisions:
        calib.thresholds_for(precision, gates)
    for precision, occupancy_FG in calib.occupancy.items():
        if any(len(occupancy_G) != gates for occupancy_G in occupancy_FG):
            raise InputError(
                f"calibration of {calib.model}: occupancy in {precision} is not of {gates} gates; calibrate again"
            )


def load_dense(inputs: BuildInputs, model: Segmenter) -> Segmenter:
    """The dense FP32 reference: its own checkpoint, or the model's own weights on every token."""
    if inputs.reference is not None:
        dense, card = load(inputs.reference, inputs.size)
        for what in ("task", "height", "width", "classes"):
            theirs, ours = getattr(card.model, what), getattr(model.spec, what)
            if theirs != ours:
                raise InputError(f"reference {inputs.reference} has {what} {theirs}, {inputs.checkpoint} {ours}")
    else:
        dense = copy.deepcopy(model)
    unquantize_linears(dense)
    return dense


def reference_and_export_models(model: Segmenter, precision: str, dialect: str) -> tuple[Segmenter, Segmenter]:
    """The PyTorch model that parity compares with, and the same model in the form that is exported."""
    reference = copy.deepcopy(model)
    unquantize_linears(reference, but=PRECISIONS[precision].quantized)
    graph = copy.deepcopy(reference)
    fold_linears(graph, dialect)
    return reference, graph
