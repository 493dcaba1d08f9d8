"""Some frames of a data set, as recipes name them, and those that a calibration is made on."""

from typing import Literal

from pydantic import Field

from edgeprune.base.reading import Strict


class FrameSelection(Strict):
    """Some frames of a data set. `data`: a name or a path of a data-set YAML; `include`, `exclude`: globs over file stems."""

    data: str
    split: Literal["train", "val", "test"] = "train"
    include: list[str] = ["*"]
    exclude: list[str] = []


LEAST_FRAMES = 8  # fewer say nothing about a quantile


class CalibrationFrames(FrameSelection):
    """The frames that thresholds, occupancy and PTQ ranges are measured on."""

    frames: int = Field(64, ge=LEAST_FRAMES, le=10**5)
    percentile: float = Field(100.0, gt=50, le=100)
