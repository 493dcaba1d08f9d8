"""Calibration: gate thresholds, occupancy and PTQ ranges, measured on frames and kept in `calib/` so that a build needs no
data set. The frames need no labels: they are a data set's, or a camera's.

Why thresholds are calibrated at all: gates are sampled in training, so a gate that sits near p = 0.6 keeps 60% there, and
everything when its score is cut at zero. Each threshold here is the quantile that keeps the target share over the frames.

However many frames there are, a few at a time pass the network, and all of them lie in an unnamed file: what grows with
them are the scores of one gate, a number for each token.

Shapes: F calibration frames, N tokens, G gates.
"""

import errno
import logging
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import yaml
from torch import Tensor

from edgeprune.base.errors import RunError
from edgeprune.base.files import write_atomic
from edgeprune.bundle import PRECISIONS
from edgeprune.data import spread
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.region import Mask
from edgeprune.data.selection import LEAST_FRAMES, CalibrationFrames
from edgeprune.data.split import open_calibration
from edgeprune.model.network import Network
from edgeprune.model.segmenter import Segmenter
from edgeprune.model.weight_files import weights_id
from edgeprune.pruning.selection import select_over
from edgeprune.quantize.calib import Calib
from edgeprune.quantize.equalise import equalise
from edgeprune.quantize.linear import quantized_linears, set_quantized
from edgeprune.quantize.ranges import measure_ranges
from edgeprune.runtime.cameras.capture import Opener
from edgeprune.runtime.cameras.sampling import sample_frames
from edgeprune.runtime.cameras.source import FrameSource

logger = logging.getLogger(__name__)

BATCH = 8  # frames that pass the network at once


class NamedImage(NamedTuple):
    """A frame to calibrate on: image_HW3 (uint8 RGB), of any size."""

    name: str
    image_HW3: npt.NDArray[np.uint8]


def calibration_frames(
    spec: CalibrationFrames, preprocess: Preprocess, mask: Mask | None = None
) -> tuple[list[str], Tensor]:
    """Names and images (F, 3, H, W), uint8, of frames spread evenly over the split that the recipe names.

    Args:
        mask: see `keep_frames`.

    Raises:
        InputError: see `open_calibration`.
        RunError: see `keep_frames`.
    """
    split = open_calibration(spec)
    chosen = (split[index] for index in spread(len(split), spec.frames))
    return keep_frames((NamedImage(sample.name, sample.image_HW3) for sample in chosen), preprocess, mask)


class Camera(NamedTuple):
    """A camera to calibrate on: so many of its frames, over so many seconds where it is live; `opener` opens it anew where it
    is lost."""

    source: FrameSource
    frames: int
    seconds: float
    opener: Opener | None = None


def camera_frames(camera: Camera, preprocess: Preprocess, mask: Mask | None = None) -> tuple[list[str], Tensor]:
    """Names and images (F, 3, H, W), uint8, of frames of a camera; one that has no name is called by its number.

    Args:
        mask: see `keep_frames`.

    Raises:
        InputError, RunError: see `sample_frames` and `keep_frames`.
    """
    frames = sample_frames(camera.source, camera.frames, camera.seconds, LEAST_FRAMES, camera.opener)
    named = (NamedImage(each.name or f"{each.index:08d}", each.image_HW3) for each in frames)
    return keep_frames(named, preprocess, mask)


def keep_frames(
    frames: Iterable[NamedImage], preprocess: Preprocess, mask: Mask | None = None
) -> tuple[list[str], Tensor]:
    """Names and fitted images (F, 3, H, W), uint8. The images lie in a file without a name, and are read from there when they
    are looked at.

    Args:
        mask: what matters of them.

    Raises:
        InputError: the mask is of another aspect.
        RunError: the folder of temporary files is full.
    """
    names: list[str] = []
    with tempfile.TemporaryFile() as file:
        for name, image_HW3 in frames:
            names.append(name)
            if mask:
                mask.check_frame(image_HW3)
            with _room_for(names):
                file.write(preprocess.fit(image_HW3).tobytes())
        with _room_for(names):
            file.flush()
        # written, not mapped, until here: a full disk is an error then, and no fatal signal; "c": nothing is written back
        frames_FHW3 = np.memmap(file, np.uint8, "c", shape=(len(names), preprocess.height, preprocess.width, 3))
    return names, torch.from_numpy(frames_FHW3).permute(0, 3, 1, 2)


@contextmanager
def _room_for(names: Sequence[str]) -> Iterator[None]:
    """Raises RunError where what is inside finds the disk full."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunError(
            f"no space left for calibration frame {len(names)} in {tempfile.gettempdir()}; free some, or set TMPDIR"
        ) from error


def as_uint8(images_F3HW: Tensor) -> npt.NDArray[np.uint8]:
    """Images as the graphs take them: (F, H, W, 3), uint8."""
    frames_FHW3: npt.NDArray[np.uint8] = images_F3HW.permute(0, 2, 3, 1).to(torch.uint8).numpy()
    return frames_FHW3


def _batches(model: Segmenter, images_F3HW: Tensor) -> Iterator[Tensor]:
    """Images (B, 3, H, W), float, a few at a time, on the device that the model is on."""
    device = next(model.parameters()).device
    for images_B3HW in images_F3HW.split(BATCH):
        yield images_B3HW.to(device).float()


class _Reached(Exception):
    """Ends a pass at the gate whose scores are wanted."""


def calibrate_thresholds(model: Segmenter, images_F3HW: Tensor) -> tuple[list[float], list[list[float]]]:
    """The score that each gate must exceed, and each frame's occupancy with these.

    A pass over the frames for each gate, as far as that gate: its quantile is taken with the gates before it already cut
    at theirs. Passes run on the model's device, quantiles are taken on the CPU.

    Returns:
        thresholds (G), occupancy (F, G) as shares of the grid.
    """
    thresholds: list[float] = []
    found: list[Tensor] = []

    def cut(gate: int, scores_BN: Tensor) -> Tensor:
        if gate == len(thresholds):
            found.append(scores_BN.float().flatten().cpu())
            raise _Reached
        return (scores_BN > thresholds[gate]).to(scores_BN.dtype)

    model.eval()
    with torch.no_grad():
        shares = model.policy.schedule.candidate_shares
        for gate, share in enumerate(shares, start=1):
            logger.info(f"calibration: threshold {gate} of {len(shares)} on {len(images_F3HW)} frames")
            for images_B3HW in _batches(model, images_F3HW):
                with suppress(_Reached):
                    model(images_B3HW, cut)
            scores_S = torch.cat(found)  # none where a region has no candidate
            thresholds.append(quantile(scores_S, 1 - share) if len(scores_S) else 0.0)
            found.clear()
    return thresholds, measure_occupancy(model, images_F3HW, thresholds)


def measure_occupancy(model: Segmenter, images_F3HW: Tensor, thresholds: Sequence[float]) -> list[list[float]]:
    """The shares of the grid that each frame has over the thresholds (F, G)."""
    shares_FG: list[list[float]] = []
    model.eval()
    with torch.no_grad():
        for images_B3HW in _batches(model, images_F3HW):
            keep_GBN = model(images_B3HW, select_over(thresholds)).masked.keep_GBN
            shares_FG += torch.stack([keep_BN.float().mean(dim=-1) for keep_BN in keep_GBN], dim=-1).tolist()
    return shares_FG


def quantile(values_S: Tensor, share: float) -> float:
    """`torch.quantile` of floats, linear between neighbours, to the bit, without its limit of 16 million values."""
    place = torch.tensor(share, dtype=torch.float32) * (len(values_S) - 1)
    lower = int(place)
    below = values_S.kthvalue(lower + 1).values
    above = values_S.kthvalue(min(lower + 2, len(values_S))).values
    return float(torch.lerp(below, above, place - lower))


def calibrate(model: Segmenter, spec: CalibrationFrames, name: str, mask: Mask | None = None) -> Calib:
    """Everything that a build of `model` needs to know about real frames.

    Args:
        mask: what matters of them, to which the model is restricted; None: all.
    """
    model.restrict(mask.region if mask else None)
    names, images_F3HW = calibration_frames(spec, Preprocess.of(model.spec), mask)
    return measure(model, images_F3HW, Calib(model=name, data=spec.data, split=spec.split, frames=names))


def calibrate_on_camera(
    model: Segmenter,
    camera: Camera,
    name: str,
    thresholds: Mapping[str, list[float]],
    mask: Mask | None = None,
) -> tuple[Calib, Tensor]:
    """Everything that a build of `model` needs to know about the place where it will see, and the images (F, 3, H, W) that
    say so.

    Args:
        thresholds: by precision, those that stay; of another one they are measured.
        mask: what matters of the frames, to which the model is restricted; None: all.
    """
    model.restrict(mask.region if mask else None)
    names, images_F3HW = camera_frames(camera, Preprocess.of(model.spec), mask)
    calib = Calib(model=name, data=camera.source.uri, frames=names, thresholds=dict(thresholds))
    return measure(model, images_F3HW, calib), images_F3HW


def measure(model: Segmenter, images_F3HW: Tensor, calib: Calib) -> Calib:
    """A calibration that says which frames it is of, filled with what they ask for; thresholds that it has already stay."""
    calib.weights = weights_id(model.state_dict())
    calib.region = list(model.inside.region.rows) if model.inside else None
    quantized = any(True for _ in quantized_linears(model))
    for precision in ("fp32", "int8") if quantized else ("fp32",):
        set_quantized(model, PRECISIONS[precision].quantized)
        if model.policy.gated:
            if known := calib.thresholds.get(precision):
                calib.occupancy[precision] = measure_occupancy(model, images_F3HW, known)
            else:
                calib.thresholds[precision], calib.occupancy[precision] = calibrate_thresholds(model, images_F3HW)
    if quantized:
        calib.ranges = {name: linear.input_step * 127 for name, linear in quantized_linears(model)}
    return calib


def ptq_ranges(model: Segmenter, spec: CalibrationFrames, equalise_from: int | None = None) -> dict[str, float]:
    """Input ranges of a model whose quantizers have not been trained; gates keep the best tokens at their targets.

    Args:
        equalise_from: change the blocks from this one on first, so that INT8 changes them less (see
            `edgeprune.quantize.equalise`); None: none.
    """
    _, images_F3HW = calibration_frames(spec, Preprocess.of(model.spec))

    def run() -> None:
        for images_B3HW in _batches(model, images_F3HW):
            model(images_B3HW)

    model.eval()
    if equalise_from is not None:
        equalise(model, run, equalise_from)
    return measure_ranges(model, run, spec.percentile)


def write_calib(path: Path, calib: Calib) -> None:
    """Writes the YAML; occupancy is rounded to a hundred-thousandth, far less than one token. A region is a picture in text:
    one line a row, for people to change."""
    content = calib.model_dump(exclude_none=True, exclude={"region"})
    content["occupancy"] = {
        key: [[round(share, 5) for share in frame] for frame in frames] for key, frames in calib.occupancy.items()
    }
    with write_atomic(path, "calibration") as partial:
        text = yaml.safe_dump(content, sort_keys=False, default_flow_style=None, width=120)
        if calib.region is not None:
            text += "\n".join(("region:", *(f'- "{row}"' for row in calib.region), ""))
        partial.write_text(text, encoding="utf-8")


def model_thresholds(model: Network, calib: Calib) -> list[float]:
    """What the gates of this model are cut at, in the precision that it was trained for; none without gates.

    Raises:
        InputError: the calibration is another model's.
    """
    gates = len(model.policy.gated)
    precision = "int8" if any(True for _ in quantized_linears(model)) else "fp32"
    return calib.thresholds_for(precision, gates) if gates else []
