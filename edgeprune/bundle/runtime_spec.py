"""What a device needs of the target that a bundle was built for; the rest of a target is for `build` alone."""

from pydantic import Field

from edgeprune.base.reading import Strict
from edgeprune.bundle.precisions import PRECISIONS

MOST_THREADS = 256


class Power(Strict, frozen=True, strict=True):
    """Where the device's energy is read: a meter of `runtime.meters.SENSORS`, its rails, and which of them make the total."""

    meter: str = Field("auto", description="a sensor's name (below); auto: the first that is there")
    rails: list[str] | None = Field(
        None, description="of the sensor, that are read; all of them where this is left out"
    )
    total: list[str] | None = Field(
        None, description="rails that are summed; left out, those that the meter takes by itself"
    )
    modes: list[str] = Field([], description="what `nvpmodel` offers, the fastest first; the device reads its own")


class Parity(Strict, frozen=True, strict=True):
    """Least share of equal labels between PyTorch and the engine, where the reference's margin exceeds 1e-3; `int8` is of every
    precision that quantizes."""

    fp32: float = Field(0.999, ge=0, le=1, description="of graphs in FP32")
    int8: float = Field(0.99, ge=0, le=1, description="of graphs in any precision that quantizes")
    fp16: float = Field(0.99, ge=0, le=1, description="of graphs in FP16")

    @staticmethod
    def key(precision: str) -> str:
        """The key here that a precision is held to."""
        return "int8" if PRECISIONS[precision].quantized else precision

    def least(self, precision: str) -> float:
        """The share that graphs of a precision are held to."""
        return float(getattr(self, self.key(precision)))


class RuntimeSpec(Strict, frozen=True, strict=True):
    """The `target` of a manifest.

    A device may be older than the bundle that it is given: a key here that it does not know is left out when the bundle is
    opened (`bundle/opening.py`). So no key here may change labels; one that does raises SCHEMA.
    """

    name: str = Field(description="letters, digits, `.`, `_` and `-`; the bundle's folder has it by default")
    engine: str = Field(description="what the device runs graphs with: see below")
    compiled_on_device: bool = Field(
        False, description="graphs are compiled there (`edgeprune compile`, or the first run)"
    )
    threads: int = Field(2, ge=1, le=MOST_THREADS, description="of the CPU, that an engine takes")
    parity: Parity = Field(Parity(), description="the least share of labels that graphs have in common with PyTorch")
    accuracy_limit_points: float = Field(
        0.5, ge=0, le=100, description="points of mIoU, or of mask AP, that a precision may lose to FP32"
    )
    power: Power = Field(Power(), description="where energy is read")
