"""A calibration: what `edgeprune calibrate` measured of a model on frames, for a build that has no data set at hand; and what
of a frame matters where the camera hangs."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.reading import Strict, parse, read_yaml
from edgeprune.bundle import PRECISIONS
from edgeprune.data.region import Rows


class Calib(Strict):
    """`calib/<model>.yaml`: what was measured, and on which frames.

    Attributes:
        weights: of the model that was measured, by `model.weight_files.weights_id`; None: an earlier version did not say.
        data: a data set, or a camera, whose password is hidden.
        split: of the data set; None: a camera, whose frames have no labels.
        frames: their names; those of a camera are numbers where it has none.
        region: the patches that matter where the camera hangs; all else was measured on these alone. None: the whole frame.
    """

    model: str
    weights: str | None = None
    data: str
    split: str | None = None
    frames: list[str]
    # per gate, for the float and for the fake-quantized model
    thresholds: dict[str, list[float]] = Field(default_factory=dict)
    # per precision: for each frame the share of tokens over the threshold, per gate (F, G)
    occupancy: dict[str, list[list[Annotated[float, Field(ge=0, le=1)]]]] = Field(default_factory=dict)
    ranges: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    region: Rows | None = None

    @property
    def placing(self) -> list[list[float]] | None:
        """The occupancy (F, G) that buckets are placed by: of the INT8 model where there is one; None without gates."""
        return self.occupancy.get("int8") or self.occupancy.get("fp32")

    def thresholds_of(self, precision: str) -> list[float]:
        """Of each gate, in graphs of a precision: FP16 takes those of FP32, and INT8 of some linears those of INT8, which the
        model was trained for. Empty where they are not known."""
        return self.thresholds.get("int8" if PRECISIONS[precision].quantized else "fp32", [])

    def thresholds_for(self, precision: str, gates: int) -> list[float]:
        """The thresholds of a model of so many gates.

        Raises:
            InputError: it was measured on another.
        """
        found = self.thresholds_of(precision)
        if len(found) != gates:
            raise InputError(
                f"calibration of {self.model} has {len(found)} thresholds for {precision}, the model {gates} gates; "
                "calibrate again"
            )
        return found


def read_calib(path: Path) -> Calib:
    """Raises InputError where the file is missing or is none."""
    return parse(Calib, read_yaml(path, "calibration"), str(path))
