"""A plan of comparison: which policies and which dense models are trained alike and held against each other."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from edgeprune.base.beside import beside, each_mapping
from edgeprune.base.reading import NAME, ROOT, Strict, find, parse, read_yaml
from edgeprune.data.selection import FrameSelection
from edgeprune.model.spec import PolicySpec

# a row's folder has its name, and its checkpoint the plan's and the row's, which together are as long as a name may be
ShortName = Annotated[str, Field(pattern=NAME, max_length=49)]


class Scored(FrameSelection):
    """The frames that every row is scored and timed on."""

    split: Literal["train", "val", "test"] = "val"
    frames: int | None = Field(None, ge=1, le=10**9, description="so many, evenly spread; default: all")


class PeerSpec(Strict):
    """A convolutional network in a ViT's place, which begins with the weights that it brings and not with `dense`."""

    name: str = Field(description="a row of `lab.peers.PEERS`")
    phases: list[str] | None = Field(
        None,
        min_length=1,
        description="phases of the recipe that train it, of equally many frames; default: `phases.dense`",
    )


class PlanRow(Strict):
    """One row: a policy, a peer, or (without either) a dense model, perhaps a smaller one."""

    policy: PolicySpec | None = None
    peer: PeerSpec | None = None
    model: dict[str, Any] = Field({}, description="keys of the recipe's model that differ: depth, height, width")
    seeds: int | None = Field(
        None, ge=1, le=100, description="the first so many of the plan's seeds; default: all, as `dense` has"
    )

    @model_serializer(mode="wrap")
    def _without_seeds(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A row that has all seeds is written as before rows could have fewer."""
        written: dict[str, Any] = write(self)
        return {key: value for key, value in written.items() if key != "seeds" or value is not None}


class Phases(Strict):
    """Which phases of the recipe train a row, in order. Both kinds see equally many frames."""

    policy: list[str] = Field(["sparse"], min_length=1)
    dense: list[str] = Field(["reference"], min_length=1)


class Plan(Strict):
    """`edgeprune compare plan.yaml`. Paths in it (`recipe`, `dense`, `target`, `score.data`) are relative to its file; in one
    that ships, which has names else, to the working folder."""

    name: ShortName
    summary: str = ""
    recipe: str = Field(description="a recipe by name or path: model, data, calibration and phases are its own")
    dense: str = Field(description="the dense checkpoint that every row starts from and learns from: a file or zoo:...")
    phases: Phases = Phases()
    frames: int | None = Field(
        None, ge=1, le=10**9, description="samples of the first phase of each row; default: the recipe's"
    )
    seeds: list[Annotated[int, Field(ge=0, lt=2**63)]] = Field([0], min_length=1, max_length=100)
    score: Scored
    target: str = "onnx-cpu"
    precisions: list[Literal["fp32", "int8"]] = Field(["fp32"], min_length=1)
    engines: list[str] = []
    rounds: int = Field(5, ge=1, le=10_000)
    controls: bool = Field(
        True, description="adds a dense row of half the depth and one of 3/4 of the input where the rows have neither"
    )
    rows: dict[ShortName, PlanRow] = Field(min_length=2)

    def seeds_of(self, row: str) -> list[int]:
        """The seeds that a row is trained with."""
        return self.seeds[: self.rows[row].seeds]


def read_plan(name: str | Path) -> tuple[Path, Plan]:
    """A plan by name (`edgeprune/lab/compare/recipes/`) or path, as it is written; and its file. `load_plan`
    checks what it names, for which it needs torch.

    Raises:
        InputError: no such file, no YAML, an unknown key or a value out of its range.
    """
    folder = ROOT / "lab" / "compare" / "recipes"
    path = find(name, folder, "plan")
    content = read_yaml(path, "plan")
    if path.parent != folder:  # a shipped one has names alone, or what is made in the working folder
        for node in each_mapping(content, ()):
            for key in ("recipe", "dense", "target"):
                beside(node, key, path.parent)
        for node in each_mapping(content, ("score",)):
            beside(node, "data", path.parent)
    return path, parse(Plan, content, str(path))
