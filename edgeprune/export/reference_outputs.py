"""What a bundle's graphs answer to its reference frames: what engines are held to wherever the bundle goes.

Shapes: F frames, H W pixels.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from edgeprune.bundle import GraphSet
from edgeprune.bundle.references import reference_name
from edgeprune.export.onnx_session import OnnxSession, Tensors
from edgeprune.model.heads.head import Head
from edgeprune.model.policy import Bucket
from edgeprune.runtime.engines.fp16_rounded import round_fp16

REFERENCE_FRAMES = 4


def reference_outputs(
    folder: Path,
    graphs: Mapping[str, GraphSet],
    buckets: Sequence[Bucket],
    frames_FHW3: npt.NDArray[np.uint8],
    threads: int,
    head: Head,
) -> dict[str, npt.NDArray[Any]]:
    """Outputs (F, ...) by `reference_name`, of the graphs as they were written; FP16 is rounded.

    Args:
        folder: of the bundle.
        graphs: by precision, paths relative to it.
        head: in which they end; it says what is kept.
    """
    outputs: dict[str, npt.NDArray[Any]] = {}
    for precision, graph_set in graphs.items():
        trunk = _open(folder / graph_set.trunk, threads)
        tails = {name: _open(folder / path, threads) for name, path in graph_set.tails.items()}
        found: dict[str, list[Tensors]] = {bucket.name: [] for bucket in buckets}
        for frame_HW3 in frames_FHW3:
            state = trunk.run({"frame": frame_HW3})
            if not tails:
                found[buckets[0].name].append(state)
            for name, tail in tails.items():
                found[name].append(tail.run(state))
        outputs |= {
            reference_name(precision, bucket, output): kept
            for bucket, answers in found.items()
            for output, kept in head.reference(_stacked(answers)).items()
        }
    return outputs


def _stacked(answers: Sequence[Tensors]) -> Tensors:
    """Of several frames each output (F, ...)."""
    return {output: np.stack([answer[output] for answer in answers]) for output in answers[0]}


def _open(path: Path, threads: int) -> OnnxSession:
    return OnnxSession(round_fp16(onnx.load(path)), threads)
