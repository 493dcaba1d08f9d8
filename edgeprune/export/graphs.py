"""From a model to its graphs of constant shapes, in ONNX: trunk, tails, the dense reference.

The stem's skips go from the trunk to a tail with their channels last: OpenVINO's convolutions make and take them in that
order, and copy megabytes into another and back where a graph says `NCHW` (trunk + tail take 5% less time with its bf16 hint,
3% less in FP32; the same in ONNX Runtime).

Shapes: H W pixels of the frame, C channels, N tokens of the grid, D width, K classes. Graphs hold one frame.
"""

import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from edgeprune.export.int8 import TRANSLATIONS
from edgeprune.export.residuals import fold_residuals
from edgeprune.export.simplify import drop_idle
from edgeprune.model.heads.head import Raw
from edgeprune.model.network import Network
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter, as_image
from edgeprune.model.stem import Stem
from edgeprune.runtime.engines.bound import SCORES, TOKEN_SCORES, Outputs

OPSET = 18
IR_VERSION = 10  # the newest that ONNX Runtime 1.18 and TensorRT 10.3's parser read


@dataclass(frozen=True)
class GraphFamily:
    """The graphs of one precision: a trunk, and a tail by bucket. Where nothing is gated the trunk is the whole network, and
    there are no tails."""

    trunk: onnx.ModelProto
    tails: dict[str, onnx.ModelProto]

    def named(self) -> dict[str, onnx.ModelProto]:
        """All of them: `trunk`, and tails by their bucket."""
        return {"trunk": self.trunk, **self.tails}

    def changed(self, change: Callable[[onnx.ModelProto], onnx.ModelProto]) -> "GraphFamily":
        """A family of changed graphs."""
        return GraphFamily(change(self.trunk), {name: change(tail) for name, tail in self.tails.items()})


class TrunkGraph(nn.Module):
    """frame -> tokens, skips, the first decision's scores, and how many tokens the frame needs by the thresholds."""

    def __init__(self, model: Segmenter, thresholds: Sequence[float]):
        super().__init__()
        self.model, self.thresholds = model, tuple(thresholds)

    def forward(self, frame_HW3: Tensor) -> tuple[Tensor, ...]:
        x_ND, skips, scores_N = self.model.trunk(frame_HW3)
        assert scores_N is not None
        return x_ND, *channels_last(skips), scores_N, self.model.policy.required_tokens(scores_N, self.thresholds)


class TailGraph(nn.Module):
    """tokens, skips, scores -> the task's outputs, at the counts of one bucket."""

    def __init__(self, model: Segmenter, counts: Sequence[int], dialect: str):
        super().__init__()
        self.model, self.counts, self.dialect = model, tuple(counts), dialect

    def forward(self, x_ND: Tensor, *skips_scores: Tensor) -> tuple[Tensor, ...]:
        *skips_1HWC, scores_N = skips_scores
        skips = [skip_1HWC.permute(0, 3, 1, 2) for skip_1HWC in skips_1HWC]
        return to_outputs(self.model, self.model.tail(x_ND, skips, scores_N, self.counts), self.dialect)


class BucketGraph(nn.Module):
    """frame -> the task's outputs at the counts of one bucket, without the choice in the middle."""

    def __init__(self, model: Segmenter, counts: Sequence[int], dialect: str):
        super().__init__()
        self.model, self.counts, self.dialect = model, tuple(counts), dialect

    def forward(self, frame_HW3: Tensor) -> tuple[Tensor, ...]:
        return to_outputs(self.model, self.model.tail(*self.model.trunk(frame_HW3), self.counts), self.dialect)


class DenseGraph(nn.Module):
    """frame -> the task's outputs through the first `depth` blocks on every token; depth 0 is what stem and head cost alone."""

    def __init__(self, model: Segmenter, depth: int, dialect: str):
        super().__init__()
        self.model, self.depth, self.dialect = model, depth, dialect

    def forward(self, frame_HW3: Tensor) -> tuple[Tensor, ...]:
        x_BND, skips, _ = self.model.embed(as_image(frame_HW3))
        x_ND = x_BND[0]
        for block in self.model.new_extras().around(self.model.blocks[: self.depth]):
            x_ND = block(x_ND)
        raw = self.model.finish(self.model.norm(x_ND)[None], self.model.grid, skips)
        return to_outputs(self.model, raw, self.dialect)


def channels_last(skips: Sequence[Tensor]) -> list[Tensor]:
    """The stem's skips as a trunk hands them over."""
    return [skip_1CHW.permute(0, 2, 3, 1) for skip_1CHW in skips]


def to_outputs(model: Segmenter, raw: Raw, dialect: str) -> tuple[Tensor, ...]:
    """What a graph gives of what the head computed: `Head.outputs`."""
    return tuple(each if each.is_floating_point() else to_bytes(each, dialect) for each in model.head.decide(raw))


def named_outputs(model: Segmenter, raw: Raw) -> Outputs:
    """What ONNX Runtime's graph gives of what the head computed."""
    outputs = zip(model.head.outputs, to_outputs(model, raw, "onnxruntime"), strict=True)
    return {name: each.cpu().numpy() for name, each in outputs}


def inside_of(model: Segmenter) -> npt.NDArray[np.bool_] | None:
    """True for the pixels of an answer, at its own resolution, inside the model's region; None: all."""
    if model.inside is None:
        return None
    stride = model.head.label_stride
    return model.inside.region.pixels(model.spec.height // stride, model.spec.width // stride)


def to_bytes(numbers: Tensor, dialect: str) -> Tensor:
    """Whole numbers as uint8. TensorRT casts to it from float alone; Torch-TensorRT does not, so there they are int32."""
    if dialect == "torch-tensorrt":
        return numbers.to(torch.int32)
    return (numbers.float() if dialect == "tensorrt" else numbers).to(torch.uint8)


def export_graph(
    graph: nn.Module, inputs: tuple[Tensor, ...], names_in: Sequence[str], names_out: Sequence[str]
) -> onnx.ModelProto:
    """A module as a graph of constant shapes, by torch's exporter, without what it notes of its own work."""
    # they report at length which torchvision operators they do without, and which constants they do not fold
    levels = {each: each.level for each in map(logging.getLogger, ("torch.onnx", "onnxscript"))}
    for each in levels:
        each.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                fold_residuals(graph.eval()),
                inputs,
                dynamo=True,
                opset_version=OPSET,
                input_names=names_in,
                output_names=names_out,
                custom_translation_table=TRANSLATIONS,
                verbose=False,
            )
    finally:
        for each, level in levels.items():
            each.setLevel(level)
    assert program is not None
    proto = program.model_proto
    proto.ir_version = IR_VERSION
    for field in ("producer_version", "doc_string"):
        proto.ClearField(field)
    del proto.metadata_props[:]
    for node in proto.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.value_info[:]
    drop_idle(proto)
    return proto


def blank_frame(model: Network) -> Tensor:
    return torch.zeros(model.spec.height, model.spec.width, 3, dtype=torch.uint8)


def skip_channels(model: Segmenter) -> tuple[int, ...]:
    """Channels of the features that the stem hands to the head."""
    assert isinstance(model.stem, Stem)
    return model.stem.skip_channels


def trunk_outputs(model: Segmenter) -> list[str]:
    """Names of what the trunk hands to a tail, in order; an answer that is called as the scores are keeps its name."""
    scores = TOKEN_SCORES if SCORES in model.head.outputs else SCORES
    return ["tokens", *(f"skip{index}" for index in range(len(skip_channels(model)))), scores]


def export_trunk(model: Segmenter, thresholds: Sequence[float]) -> onnx.ModelProto:
    """Input `frame`; outputs `tokens`, `skip0`..., `scores`, `count`."""
    return export_graph(
        TrunkGraph(model, thresholds), (blank_frame(model),), ["frame"], [*trunk_outputs(model), "count"]
    )


def export_tail(model: Segmenter, bucket: Bucket, dialect: str) -> onnx.ModelProto:
    """Inputs as the trunk's outputs without `count` (those the bucket needs); outputs as the head's."""
    with torch.no_grad():
        x_ND, skips, scores_N = model.trunk(blank_frame(model))
    assert scores_N is not None
    state = (x_ND, *channels_last(skips), scores_N)
    proto = export_graph(TailGraph(model, bucket.counts, dialect), state, trunk_outputs(model), model.head.outputs)
    drop_unused_inputs(proto)
    sort_topk(proto, dialect)
    return proto


def export_family(
    model: Segmenter, buckets: Sequence[Bucket], thresholds: Sequence[float], dialect: str
) -> GraphFamily:
    """Trunk and tails; a policy without gates is one graph from frame to outputs.

    Args:
        thresholds: of each decision.
    """
    if not model.policy.gated:
        return GraphFamily(export_dense(model, dialect), {})
    trunk = export_trunk(model, thresholds)
    return GraphFamily(trunk, {bucket.name: export_tail(model, bucket, dialect) for bucket in buckets})


def export_bucket(model: Segmenter, bucket: Bucket, dialect: str) -> onnx.ModelProto:
    """Input `frame`, outputs as the head's: trunk and tail as one graph."""
    proto = export_graph(
        BucketGraph(model, bucket.counts, dialect), (blank_frame(model),), ["frame"], model.head.outputs
    )
    sort_topk(proto, dialect)
    return proto


def export_dense(model: Segmenter, dialect: str, depth: int | None = None) -> onnx.ModelProto:
    """Input `frame`, outputs as the head's; `depth` blocks, by default all."""
    depth = len(model.blocks) if depth is None else depth
    return export_graph(DenseGraph(model, depth, dialect), (blank_frame(model),), ["frame"], model.head.outputs)


def sort_topk(proto: onnx.ModelProto, dialect: str) -> None:
    """TensorRT's TopK sorts in any case, and its parser's table takes no other (operators.md, "`sorted` must be 1"); a CPU is
    faster without."""
    for node in proto.graph.node:
        for item in node.attribute:
            if dialect == "tensorrt" and node.op_type == "TopK" and item.name == "sorted":
                item.i = 1


def drop_unused_inputs(proto: onnx.ModelProto) -> None:
    """The bucket of the full grid selects nothing, so it takes no scores."""
    used = {name for node in proto.graph.node for name in node.input}
    for value in [value for value in proto.graph.input if value.name not in used]:
        proto.graph.input.remove(value)
