"""A target: the device that a bundle is built for."""

import re
from typing import Literal

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.base.reading import NAME, Strict, find, parse, read_yaml, shipped


class Power(Strict):
    """Where the device's energy is read: a meter of `runtime.meters.METERS`, its rails, and which of them make the total."""

    meter: str = "auto"
    rails: list[str] | None = None
    total: list[str] | None = None
    modes: list[str] = Field([], description="what `nvpmodel` offers, the fastest first; the device reads its own")


class Parity(Strict):
    """Least share of equal labels between PyTorch and the engine, where the reference's margin exceeds 1e-3."""

    fp32: float = Field(0.999, ge=0, le=1)
    int8: float = Field(0.99, ge=0, le=1)
    fp16: float = Field(0.99, ge=0, le=1)


class BucketFamily(Strict):
    """How many buckets, and the multiple that their token counts are rounded up to."""

    count: int = Field(5, ge=1, le=64)
    multiple: int = Field(64, ge=1, le=4096)
    most: int | None = Field(None, ge=1, description="the most tokens a decision can pick, short of taking all")


class Target(Strict):
    """A device: `targets/<name>.yaml`."""

    name: str
    summary: str
    requires: str = ""  # of the system, beside edgeprune
    engine: str
    # where several are given, `build` measures those that are installed, and `engine` becomes the fastest
    candidates: list[str] = []
    precisions: list[Literal["fp32", "fp16", "int8"]] = Field(min_length=1)
    # what precision `int8` leaves in float; graphs are strongly typed, the engine adds no types of its own
    beside_int8: Literal["fp32", "fp16"] = "fp32"
    # `build` times every bucket in every precision here, and a run takes the fastest that holds the accuracy limit
    precision_per_bucket: bool = False
    threads: int = Field(2, ge=1, le=256)
    # how graphs are written: QGemm of ONNX Runtime takes the bias as INT32; TensorRT refuses to dequantize INT32 and wants
    # a float Add, and casts to UINT8 from float alone
    dialect: Literal["onnxruntime", "tensorrt"]
    buckets: BucketFamily = BucketFamily()
    parity: Parity = Parity()
    accuracy_limit_points: float = Field(0.5, ge=0, le=100)
    lint: list[str]
    compiled_on_device: bool = False
    power: Power = Power()


def load_target(name: str) -> Target:
    """A target by name (`targets/`) or path."""
    path = find(name, shipped("targets"), "target")
    target = parse(Target, read_yaml(path, "target"), str(path))
    if not re.fullmatch(NAME, target.name):  # not of a bundle's, whose folder has its name already
        raise InputError(
            f"{path}: name: expected letters, digits, `.`, `_` and `-`, for a bundle's folder has it, found "
            f"{target.name[:80]!r}"
        )
    return target
