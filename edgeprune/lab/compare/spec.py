"""A plan of comparison: which policies and which dense models are trained alike and held against each other."""

from typing import Annotated, Any, Literal

from pydantic import Field

from edgeprune.base.reading import Strict
from edgeprune.data.selection import Source
from edgeprune.model.spec import PolicySpec


class Scored(Source):
    """The frames that every row is scored and timed on."""

    split: Literal["train", "val", "test"] = "val"
    frames: int | None = Field(None, ge=1, description="so many, evenly spread; default: all")


class PlanRow(Strict):
    """One row: a policy, or (without one) a dense model, perhaps a smaller one."""

    policy: PolicySpec | None = None
    model: dict[str, Any] = Field({}, description="keys of the recipe's model that differ: depth, height, width")


class Phases(Strict):
    """Which phases of the recipe train a row, in order. Both kinds see equally many frames."""

    policy: list[str] = Field(["sparse"], min_length=1)
    dense: list[str] = Field(["reference"], min_length=1)


class Plan(Strict):
    """`edgeprune compare plan.yaml`. Paths in it (`recipe`, `dense`, `target`, `score.data`) are relative to its file."""

    name: str
    summary: str = ""
    recipe: str = Field(description="a recipe by name or path: model, data, calibration and phases are its own")
    dense: str = Field(description="the dense checkpoint that every row starts from and learns from: a file or zoo:...")
    phases: Phases = Phases()
    frames: int | None = Field(None, ge=1, description="samples of the first phase of each row; default: the recipe's")
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field([0], min_length=1)
    score: Scored
    target: str = "onnx-cpu"
    precisions: list[Literal["fp32", "int8"]] = Field(["fp32"], min_length=1)
    engines: list[str] = []
    rounds: int = Field(5, ge=1)
    controls: bool = Field(
        True, description="adds a dense row of half the depth and one of 3/4 of the input where the rows have neither"
    )
    rows: dict[str, PlanRow] = Field(min_length=2)
