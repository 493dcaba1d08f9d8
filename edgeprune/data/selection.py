"""Some frames of a data set, as recipes name them, and those that a calibration is made on."""

from typing import Literal

from pydantic import Field

from edgeprune.base.reading import Strict


class FrameSelection(Strict):
    """Some frames of a data set. `data`: a name or a path of a data-set YAML; `include`, `exclude`: globs over file stems."""

    data: str = Field(description="a data set: a name, a folder or a YAML file; relative to the recipe")
    split: Literal["train", "val", "test"] = Field("train", description="of the data set")
    include: list[str] = Field(["*"], description="globs over file stems: these frames alone")
    exclude: list[str] = Field([], description="globs over file stems: not these, for leaving a drive out")


LEAST_FRAMES = 8  # fewer say nothing about a quantile


class CalibrationFrames(FrameSelection):
    """The frames that thresholds, occupancy and PTQ ranges are measured on."""

    frames: int = Field(64, ge=LEAST_FRAMES, le=10**5, description="evenly spread over the split")
    percentile: float | None = Field(
        None,
        gt=50,
        le=100,
        description="of the absolute values that an INT8 range reaches to, 100: the largest; null: the range whose codes "
        "change the linear's output least",
    )
    equalise: bool = Field(
        True,
        description="before INT8 ranges are measured, take large channels off the linears, which leaves the model's function "
        "as it is (SmoothQuant)",
    )
