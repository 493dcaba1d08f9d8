"""A target: the device that a bundle is built for."""

import hashlib
import operator
import re
from typing import Literal

from pydantic import Field

from edgeprune.base.errors import InputError, choose
from edgeprune.base.reading import NAME, Strict, find, parse, read_extended, shipped
from edgeprune.bundle.precisions import PrecisionName
from edgeprune.bundle.runtime_spec import Parity, RuntimeSpec

SEMANTIC = "semantic"  # the task that answers with labels
# by the task of a model, the key of a target whose bounds its graphs are held to
BOUNDS = {SEMANTIC: "parity", "instance": "parity_of_things"}


class BucketFamily(Strict, frozen=True):
    """How many buckets, and the multiple that their token counts are rounded up to."""

    count: int = Field(
        5,
        ge=1,
        le=64,
        description="the most buckets, the one of all tokens among them; a policy trained with `least` has two more",
    )
    multiple: int = Field(64, ge=1, le=4096, description="of tokens, that bucket sizes are rounded up to")
    most: int | None = Field(None, ge=1, description="the most tokens a decision can pick, short of taking all")


class Target(RuntimeSpec, frozen=True):
    """A device: `targets/<name>.yaml`. What it needs at run time, and how `build` makes graphs for it."""

    summary: str = Field(description="one line for `edgeprune targets`")
    requires: str = Field("", description="of the system, beside edgeprune; `edgeprune targets` says it")
    candidates: list[str] = Field(
        [], description="engines: `build` measures those that are installed, and `engine` becomes the fastest"
    )
    precisions: list[PrecisionName] = Field(
        min_length=1, description="what `build` makes of a checkpoint with INT8 ranges; without, those in float"
    )
    beside_int8: Literal["fp32", "fp16"] = Field(
        "fp32",
        description="what a precision that quantizes leaves in float; graphs are strongly typed, engines add no types",
    )
    precision_per_bucket: bool = Field(
        False,
        description="`build` times each bucket in each precision, and a run takes the fastest that holds "
        "`accuracy_limit_points`; for a target that is the machine on which `build` runs",
    )
    dialect: Literal["onnxruntime", "tensorrt"] = Field(
        description="how graphs are written: ONNX Runtime's QGemm takes the bias as INT32; TensorRT refuses to dequantize "
        "INT32, wants a float Add, and casts to UINT8 from float alone"
    )
    parity_of_things: Parity = Field(
        Parity(fp32=0.999, int8=0.85, fp16=0.95),
        description="as `parity`, of things in place of labels: the mask of a small one is of a dozen pixels, of which INT8 "
        "turns one more than a tenth, and of two places that say nearly the same either may be looked at",
    )
    buckets: BucketFamily = Field(BucketFamily(), description="how many sizes of graphs there are")
    lint: list[str] = Field(description="rules that every graph has to keep: see below")

    def runtime(self, task: str = SEMANTIC) -> RuntimeSpec:
        """What of it a manifest of that task holds."""
        content = self.model_dump(include=set(RuntimeSpec.model_fields))
        return RuntimeSpec.model_validate(content | {"parity": self.held_to(task).model_dump()})

    def held_to(self, task: str) -> Parity:
        """What graphs of that task are held to. Raises InputError for an unknown one."""
        bounds: Parity = getattr(self, choose(BOUNDS, task, "task"))
        return bounds

    def sha256(self) -> str:
        """Tells whether a bundle was built for this target, as it stands."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_target(name: str) -> Target:
    """A target by name (`targets/`) or path.

    Its file may name a shipped target that it `extends`: keys that it leaves out are that one's.

    Raises:
        InputError: no such target, none that it extends, or a key or value that is none.
    """
    path = find(name, shipped("targets"), "target")
    target = parse(Target, read_extended(path, shipped("targets"), "target", operator.or_), str(path))
    if not re.fullmatch(NAME, target.name):  # not of a bundle's, whose folder has its name already
        raise InputError(
            f"{path}: name: expected letters, digits, `.`, `_` and `-`, for a bundle's folder has it, found "
            f"{target.name[:80]!r}"
        )
    return target
