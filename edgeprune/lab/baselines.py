"""What a bundle's graphs are timed against, as ONNX files for `bench --baseline`: what a user would deploy without edgeprune
(the dense reference in INT8), and a bucket without its choice in the middle (trunk and tail joined into one graph).

Shapes: F frames, H W pixels.
"""

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import compose

from edgeprune.base.errors import InputError, choose
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.bundle import Bundle
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export.graphs import export_dense
from edgeprune.export.int8 import fold_linears
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calibrate import as_uint8, calibration_frames, ptq_ranges
from edgeprune.quantize.linear import quantize_linears, quantized_linears
from edgeprune.quantize.loading import load
from edgeprune.quantize.nncf_ptq import calibrated
from edgeprune.quantize.ranges import apply_ranges

logger = logging.getLogger(__name__)

Make = Callable[[Segmenter, CalibrationFrames, str], onnx.ModelProto]


def linears_int8(model: Segmenter, frames: CalibrationFrames, dialect: str) -> onnx.ModelProto:
    """The linears alone, as edgeprune quantizes its own: symmetric, min-max on the frames, no training."""
    model = copy.deepcopy(model)
    quantize_linears(model)
    apply_ranges(model, ptq_ranges(model, frames))
    fold_linears(model, dialect)
    return export_dense(model, dialect)


def nncf_transformer(model: Segmenter, frames: CalibrationFrames, dialect: str) -> onnx.ModelProto:
    """`nncf.quantize` with its transformer settings (smoothing and bias correction included) on the FP32 graph."""
    _, images_F3HW = calibration_frames(frames, Preprocess.of(model.spec))
    return calibrated(export_dense(model, dialect), as_uint8(images_F3HW))


BASELINES: dict[str, Make] = {"dense-linears-int8": linears_int8, "dense-nncf-int8": nncf_transformer}


def export_baselines(checkpoint: Path, frames: CalibrationFrames, dialect: str, out: Path) -> list[Path]:
    """Writes every baseline of a dense FP32 checkpoint to `out`, weights inside the file.

    Raises:
        InputError: the checkpoint isn't a dense model in FP32, or the frames are not there.
    """
    model, card = load(checkpoint)
    if model.policy.gated or any(True for _ in quantized_linears(model)):
        raise InputError(
            f"{checkpoint} is {card.policy.name}{' in INT8' if card.quantized else ''}; a baseline is made of a dense FP32 "
            "checkpoint, such as the zoo's reference.safetensors"
        )
    make_folder(out, "baselines")
    paths = []
    for name, make in BASELINES.items():
        logger.info(f"{name}: {(make.__doc__ or '').splitlines()[0]}")
        paths.append(_write(make(model, frames, dialect), out / f"{name}.onnx"))
    return paths


def join(bundle: Bundle, precision: str, bucket: str) -> onnx.ModelProto:
    """Trunk and tail of one bucket as a single graph, frame -> outputs: what a choice in the middle of the frame costs.

    Raises:
        InputError: the bundle has no such precision, or nothing to join.
    """
    graphs = bundle.graphs(precision)
    if not graphs.tails:
        raise InputError(f"{bundle.folder}: its {precision} graphs have no tails; there is nothing to join")
    trunk = onnx.load(bundle.path(graphs.trunk))
    tail = compose.add_prefix(onnx.load(bundle.path(choose(graphs.tails, bucket, "bucket"))), "tail.")
    outputs = {value.name: value.name.removeprefix("tail.") for value in tail.graph.output}
    for value in tail.graph.output:
        value.name = outputs[value.name]
    for node in tail.graph.node:
        node.output[:] = [outputs.get(name, name) for name in node.output]
    state = [(value.name.removeprefix("tail."), value.name) for value in tail.graph.input]
    joined: onnx.ModelProto = compose.merge_models(trunk, tail, io_map=state, outputs=list(outputs.values()))
    return joined


def export_joined(bundle: Bundle, precision: str, out: Path) -> list[Path]:
    """Writes `joined-<bucket>-<precision>.onnx` for every bucket to `out`, weights inside the file."""
    logger.info("joined: trunk and tail in one graph")
    return [
        _write(join(bundle, precision, bucket.name), out / f"joined-{bucket.name}-{precision}.onnx")
        for bucket in bundle.manifest.buckets
    ]


def _write(proto: onnx.ModelProto, path: Path) -> Path:
    make_folder(path.parent, "baselines")
    with write_atomic(path, "graph") as partial:
        partial.write_bytes(proto.SerializeToString())
    return path
