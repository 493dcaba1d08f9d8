"""A peer's graphs, which have the edges of ours: a frame in (uint8, HxWx3), the task's outputs out, normalisation within. FP32
is one graph; of INT8 each engine has its own, by the route that its makers recommend for convolutional networks.

Shapes: F frames, H W pixels.
"""

import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import nncf
import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from edgeprune.base.errors import choose
from edgeprune.base.files import make_folder, write_atomic
from edgeprune.bundle import BucketEntry, Bundle, GraphSet, Manifest
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.bundle.schema import schema_of
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.selection import CalibrationFrames
from edgeprune.export.graphs import blank_frame, export_graph, to_bytes
from edgeprune.lab.peers.peer import Peer
from edgeprune.lab.peers.training import make_peer
from edgeprune.model.card import Card
from edgeprune.model.segmenter import as_image
from edgeprune.quantize.calibrate import as_uint8, calibration_frames

logger = logging.getLogger(__name__)

FRAME, DIALECT = "frame", "onnxruntime"
OF_TOKENS = ("LayerNormalization", "Gemm", "MatMul")  # operators that no network of convolutions alone has
Frames = npt.NDArray[np.uint8]


class PeerGraph(nn.Module):
    """frame -> the peer's `outputs`."""

    def __init__(self, peer: Peer):
        super().__init__()
        self.peer = peer

    def forward(self, frame_HW3: Tensor) -> tuple[Tensor, ...]:
        decided = self.peer.decide(self.peer.logits(as_image(frame_HW3)))
        return tuple(each if each.is_floating_point() else to_bytes(each, DIALECT) for each in decided)


def export_peer(peer: Peer) -> onnx.ModelProto:
    """Input `frame`, outputs as the peer's, constant shapes, FP32."""
    return export_graph(PeerGraph(peer), (blank_frame(peer),), [FRAME], list(peer.outputs))


def head_nodes(proto: onnx.ModelProto) -> list[str]:
    """Names of the nodes from the first norm or linear of tokens on: the head that ViTs have too, which no precision of theirs
    quantizes (`quantize/linear.py`), and whose scores, boxes and masks 256 levels are too few for. None of a network of
    convolutions alone."""
    names, reached = list[str](), set[str]()
    for node in proto.graph.node:  # each after those that it takes from
        if node.op_type in OF_TOKENS or not reached.isdisjoint(node.input):
            names.append(node.name)
            reached.update(filter(None, node.output))  # an output that is not asked for has no name
    return names


class FrameReader(CalibrationDataReader):
    """Calibration frames, as ONNX Runtime asks for them."""

    def __init__(self, frames_FHW3: Frames):
        self._left = iter(frames_FHW3)

    def get_next(self) -> dict[str, Frames] | None:
        frame_HW3 = next(self._left, None)
        return None if frame_HW3 is None else {FRAME: np.ascontiguousarray(frame_HW3)}


def quantize_for_onnxruntime(proto: onnx.ModelProto, frames_FHW3: Frames) -> onnx.ModelProto:
    """ONNX Runtime's static quantization in QDQ after its own preparation; a scale for each channel of a weight.

    Activations are unsigned and weights signed, the fastest on x86: EfficientNet-Lite0 takes 27 ms on one thread with
    AVX-512 VNNI, 45 ms with signed activations at equal agreement with FP32, 36 ms in FP32.
    """
    with tempfile.TemporaryDirectory(prefix="edgeprune-peer-") as name:
        folder = Path(name)
        plain, prepared, quantized = (folder / f"{each}.onnx" for each in ("plain", "prepared", "quantized"))
        onnx.save(proto, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(quantized),
            FrameReader(frames_FHW3),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=head_nodes(onnx.load(prepared)),
        )
        return onnx.load(quantized)


def quantize_for_openvino(proto: onnx.ModelProto, frames_FHW3: Frames) -> onnx.ModelProto:
    """NNCF's post-training quantization, symmetric, the fastest; where activations have both signs on purpose (PReLU) they are
    not, as NNCF advises. EfficientNet-Lite0: 16.6 ms on one thread, 18.0 with the preset of such networks, equal agreement."""
    signed = any(node.op_type == "PRelu" for node in proto.graph.node)
    preset = nncf.QuantizationPreset.MIXED if signed else nncf.QuantizationPreset.PERFORMANCE
    data = nncf.Dataset([{FRAME: frame_HW3} for frame_HW3 in frames_FHW3])
    head = head_nodes(proto)
    left_out = nncf.IgnoredScope(names=head, validate=False) if head else None  # NNCF drops nodes that do nothing
    with redirect_stdout(sys.stderr):  # its progress
        quantized: onnx.ModelProto = nncf.quantize(
            proto, data, preset=preset, subset_size=len(frames_FHW3), ignored_scope=left_out
        )
    return quantized


@dataclass(frozen=True)
class Route:
    """How INT8 is made for an engine. `maker` names the file: engines that share it share the graph."""

    maker: str
    quantize: Callable[[onnx.ModelProto, Frames], onnx.ModelProto]


_OPENVINO = Route("openvino", quantize_for_openvino)
ROUTES = {
    "onnxruntime": Route("onnxruntime", quantize_for_onnxruntime),
    "openvino": _OPENVINO,
    "openvino-bf16": _OPENVINO,
}


@dataclass(frozen=True)
class PeerGraphs:
    """A peer's graphs in a folder, weights within the files."""

    folder: Path
    card: Card

    @property
    def fp32(self) -> Path:
        return self.folder / f"{self.card.network}-fp32.onnx"

    def int8(self, engine: str) -> Path:
        """Raises InputError where there is no route to INT8 for the engine."""
        return self.folder / f"{self.card.network}-int8-{choose(ROUTES, engine, 'engine for a peer').maker}.onnx"

    def write(self, peer: Peer, calibration: CalibrationFrames, engines: Sequence[str]) -> list[Path]:
        """Writes FP32, and INT8 for each of the engines, calibrated on frames that are fitted as everywhere."""
        make_folder(self.folder, "graphs")
        logger.info(f"{self.card.network}: exports FP32")
        proto = export_peer(peer)
        _save(proto, self.fp32)
        _, images_F3HW = calibration_frames(calibration, Preprocess.of(peer.spec))
        due = {self.int8(engine): ROUTES[engine] for engine in engines}
        for path, route in due.items():
            logger.info(f"{self.card.network}: INT8 for {route.maker}, on {len(images_F3HW)} frames")
            _save(route.quantize(proto, as_uint8(images_F3HW)), path)
        return [self.fp32, *due]

    def seen_by(self, engine: str, target: RuntimeSpec) -> Bundle:
        """The graphs for an engine as a bundle of one bucket, to be scored and timed as ours are. It is never written."""
        spec, precisions = self.card.model, ["fp32", "int8"]
        peer = make_peer(self.card)  # untrained: it says what its graphs give
        tokens = spec.grid[0] * spec.grid[1]
        return Bundle(
            self.folder,
            Manifest(
                schema_version=schema_of(None, precisions),
                name=self.card.name,
                task=spec.task,
                outputs=list(peer.outputs),
                target=target.model_copy(update={"engine": engine}),
                height=spec.height,
                width=spec.width,
                preprocess=spec.preprocess,
                label_height=spec.height // peer.label_stride,
                label_width=spec.width // peer.label_stride,
                names=self.card.names,
                palette=self.card.palette,
                depth=1,
                tokens=tokens,
                policy=self.card.network or "",
                precisions=precisions,
                buckets=[BucketEntry(name="full", counts=[], first=tokens, token_layers=tokens)],
                graphs={
                    "fp32": GraphSet(trunk=self.fp32.name, tails={}),
                    "int8": GraphSet(trunk=self.int8(engine).name, tails={}),
                },
                dense=self.fp32.name,
                stem_head=self.fp32.name,
                parity=[],
                references="",
                provenance=self.card.provenance,
                files={},
            ),
        )


def _save(proto: onnx.ModelProto, path: Path) -> None:
    with write_atomic(path, "graph") as partial:
        partial.write_bytes(proto.SerializeToString())
