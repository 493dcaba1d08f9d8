"""The bundle: a folder that is all a device needs, and the only thing that passes from training to the device.

    manifest.json            what follows, and what each graph computes
    graphs/*.onnx            trunk, tails, dense reference
    graphs/*.weights         their constants, one file per precision, shared by its graphs
    references.npz           a few frames with the labels that each graph gave for them when it was built
    build.log  parity.csv    how it was built and how close the engine came to PyTorch

Every file is hashed; a bundle is never changed after it is written. What a device compiles
goes to a cache of its own (`edgeprune.base.device`).
"""

from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from edgeprune.base.errors import InputError, choose
from edgeprune.base.files import sha256
from edgeprune.base.reading import Strict
from edgeprune.bundle.memory import StateTensor
from edgeprune.bundle.precisions import PRECISIONS, PrecisionName
from edgeprune.bundle.runtime_spec import RuntimeSpec
from edgeprune.bundle.schema import SCHEMA_OF_BUDGETS, SCHEMA_OF_GROUPS
from edgeprune.data.preprocess import PreprocessName
from edgeprune.data.region import Region, Rows

PREPROCESS_BEFORE = "letterbox"  # up to schema 3 no manifest names it, and a run fitted frames so
MANIFEST = "manifest.json"
MIXED = "mixed"  # the name of a graph set whose buckets are of several precisions
GRAPH_SETS = (*PRECISIONS, MIXED)  # what the graph sets of a bundle may be called
FULL = "full"  # the name of the bucket of all tokens
DENSE = "dense"  # the name of the dense FP32 reference among buckets and graphs

# Bounds of what a person or a build ever writes, and a few times more. What must agree with what: `bundle/checks.py`.
DisplayName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
Side = Annotated[int, Field(ge=1, le=16384, description="pixels")]
Tokens = Annotated[int, Field(ge=1, le=1 << 20)]
Share = Annotated[float, Field(ge=0, le=1)]
Byte = Annotated[int, Field(ge=0, le=255)]


class BucketEntry(Strict, frozen=True, strict=True):
    """One static bucket."""

    name: DisplayName
    counts: list[Tokens] = Field(max_length=1000, description="tokens of each gated block")
    first: int = Field(
        ge=0, le=1 << 20, description="tokens at the first decision; the smallest bucket that holds the count is taken"
    )
    token_layers: int = Field(ge=0, description="tokens processed, summed over all blocks")
    for_budgets: bool = Field(
        False, description="smaller than those that frames ask for: a frame gets it from a budget, or by its name"
    )


class GraphSet(Strict, frozen=True, strict=True):
    """The graphs of one precision: a trunk and a tail per bucket, paths relative to the bundle.

    Without tails nothing is gated: the trunk is the whole network (frame -> labels) and the one bucket is "full".
    """

    trunk: str
    tails: dict[str, str]


class ParityRow(Strict, frozen=True, strict=True):
    """PyTorch against the engine for one bucket, over `frames` real or street frames."""

    bucket: DisplayName
    precision: PrecisionName
    max_abs: float = Field(ge=0, description="largest difference of what answers are decided from, such as a logit")
    label_agreement: Share = Field(description="share of equal labels where the reference's margin exceeds 1e-3")
    excluded: Share = Field(description="share of pixels whose margin does not")
    selection_agreement: Share | None = Field(
        None, description="share of equal token selections, mean over gates; null where nothing is selected"
    )
    frames: int = Field(ge=1)


class EngineRow(Strict, frozen=True, strict=True):
    """One engine, where the target leaves it open."""

    engine: DisplayName
    agreement: Share | None = Field(description="share of labels equal to the references; null where it can't run here")
    p50_ms: float | None = Field(ge=0)
    chosen: bool
    reason: str


class PrecisionRow(Strict, frozen=True, strict=True):
    """One precision of the trunk or of a bucket, as `build` measured it."""

    bucket: DisplayName = Field(description="`trunk` for the trunk")
    precision: PrecisionName
    p50_ms: float = Field(ge=0, description="of the bucket: trunk and tail in this precision")
    loss_points: float | None = Field(description="mIoU under FP32 of the same bucket; null where unknown")
    chosen: bool


class MemoryEntry(Strict, frozen=True, strict=True):
    """The graphs that remember, beside a bundle's own."""

    refresh: int = Field(ge=1, le=10_000, description="frames in which every token is computed once, changed or not")
    groups: Literal[1, 2] = Field(1, description="of tokens, of each of which a frame computes as many")
    buckets: list[BucketEntry] = Field(min_length=2, description="smallest first: `still`, of no token; the last: all")
    graphs: dict[str, GraphSet] = Field(description="by precision")
    state: dict[str, list[StateTensor]] = Field(description="by precision: what a frame leaves for the next")
    parity: list[ParityRow] = Field([], description="over frames in a row")

    def nbytes(self, precision: str) -> int:
        """Of one set of the state."""
        return sum(tensor.nbytes for tensor in self.state[precision])


class Manifest(Strict, frozen=True, strict=True):
    """`manifest.json`. Strict, as all that it is made of: a "5" does not pass for a number."""

    schema_version: int = Field(ge=1)
    name: DisplayName
    task: DisplayName = Field("semantic", description="what its graphs answer, a row of `runtime.tasks.TASKS`")
    outputs: list[DisplayName] = Field(
        ["labels"], min_length=1, description="names of these answers, as the graphs have them"
    )
    target: RuntimeSpec = Field(description="what a device needs of the target that it was built for")
    height: Side
    width: Side
    preprocess: PreprocessName = Field(description="how a frame is fitted to height x width, see `data/preprocess.py`")
    label_height: Side
    label_width: Side
    names: list[DisplayName] = Field(min_length=1, max_length=255, description="classes; labels are bytes, 255 is none")
    palette: list[Annotated[tuple[Byte, Byte, Byte], Field(strict=False)]]  # a list in JSON
    depth: int = Field(ge=1, le=1000)
    tokens: Tokens = Field(description="patches of the whole input, which the dense reference processes")
    region: Rows | None = Field(
        None, description="the patches that matter, `#`; the others have no labels, and no bucket processes them"
    )
    policy: DisplayName
    precisions: list[str] = Field(min_length=1)
    buckets: list[BucketEntry] = Field(min_length=1, description="smallest first; the last is the full grid, or region")
    graphs: dict[str, GraphSet] = Field(description="by precision; `mixed` takes each bucket from one of them")
    memory: MemoryEntry | None = Field(None, description="between frames; null where it was built without")
    dense: str = Field(description="the dense FP32 reference graph: frame -> labels")
    stem_head: str = Field(description="stem and head without a block: their share of the dense time")
    parity: list[ParityRow]
    engine_choice: list[EngineRow] = Field([], description="where the target leaves the engine open: what was measured")
    precision_choice: list[PrecisionRow] = Field([], description="what was measured, and what a run takes of it")
    run: str | None = Field(
        None, description="the graph set that a run takes unless told; null: the one that quantizes most"
    )
    references: str
    provenance: dict[str, Any]
    files: dict[str, str] = Field(description="SHA-256 of every file but this one")
    sizes: dict[str, Annotated[int, Field(ge=0)]] = Field(
        {}, description="bytes of every file: a file of another size is refused before it is read"
    )

    @property
    def grid(self) -> tuple[int, int]:
        """Patches of the whole input, (Gh, Gw), where they are square."""
        patch = isqrt(self.height * self.width // self.tokens)
        return (self.height // patch, self.width // patch) if patch else (0, 0)

    @property
    def inside_hw(self) -> npt.NDArray[np.bool_] | None:
        """True for the pixels of a label map that lie inside the region; None: all do."""
        region = Region.of(self.region)
        return None if region is None else region.pixels(self.label_height, self.label_width)

    @property
    def most_tokens(self) -> int:
        """What a block of the largest bucket processes: the whole input, or its region."""
        region = Region.of(self.region)
        return self.tokens if region is None else region.tokens


@dataclass(frozen=True, eq=False)
class Bundle:
    """A folder and what is read of it. `open_bundle` verifies it against its hashes.

    Attributes:
        folder: as it was named; where that is a link, it may lead elsewhere by now.
        led_to: the folder that it led to when it was opened, without links and `..`; None where nobody looked.
        remembers: whether these are the graphs and buckets of its memory (`with_memory`), no longer its own.
    """

    folder: Path
    manifest: Manifest
    led_to: Path | None = None
    remembers: bool = False

    def with_memory(self) -> "Bundle":
        """The same files, with the buckets and graphs of its memory between frames in place of its own. A run takes the
        precision that it would take of its own graphs, of several that of the largest bucket.

        Raises:
            InputError: it was built without.
        """
        memory = self.manifest.memory
        if memory is None:
            raise InputError(f"{self.folder} was built without memory; build it with --memory")
        precisions = [each for each in self.manifest.precisions if each in memory.graphs]
        run = self.manifest.run
        if run == MIXED:
            built = self.manifest.graphs
            full = built[MIXED].tails.get(self.manifest.buckets[-1].name)
            run = next((each for each in built if each != MIXED and full in built[each].tails.values()), None)
        changes = {
            "buckets": memory.buckets,
            "graphs": memory.graphs,
            "precisions": precisions,
            "parity": memory.parity,
            "run": run if run in memory.graphs else None,
        }
        return replace(self, manifest=self.manifest.model_copy(update=changes), remembers=True)

    def seen_with(self, **changes: Any) -> "Bundle":
        """These files under a manifest of which some values are others."""
        return replace(self, manifest=self.manifest.model_copy(update=changes))

    def where_it_led(self) -> "Bundle":
        """The same by the folder that its link led to when it was verified: nothing else is read from here on."""
        return replace(self, folder=self.led_to or self.folder)

    def path(self, relative: str) -> Path:
        return self.folder / relative

    def bucket(self, name: str) -> BucketEntry:
        """Raises InputError with the choices for an unknown name."""
        return choose({entry.name: entry for entry in self.manifest.buckets}, name, "bucket")

    def graphs(self, precision: str) -> GraphSet:
        """Raises InputError for a precision that was not built: what the bundle holds, and why not this one."""
        built, target = self.manifest.graphs, self.manifest.target
        if precision not in built and precision in GRAPH_SETS:
            why = "which it was built without"
            if precision == MIXED:
                why = "which is there where a mixture was measured to be the fastest"
            elif precision == "fp16" and not target.compiled_on_device:
                why = "which is for GPUs alone"
            raise InputError(
                f"{self.folder} for {target.name} holds {' and '.join(built)}, no {precision}, {why}; take one of these, "
                "or leave the precision out"
            )
        return choose(built, precision, "precision")

    def default_precision(self) -> str:
        """What a run takes: what was measured as the fastest, else the one that quantizes most."""
        if self.manifest.run:
            return self.manifest.run
        return max(self.manifest.precisions, key=lambda each: len(PRECISIONS[each].quantized))


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Hashes every file of `folder` and writes the manifest beside them.

    Returns:
        the manifest, with the hashes.
    """
    files = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    hashes = {name: sha256(path) for name, path in files.items()}
    sizes = {name: path.stat().st_size for name, path in files.items()}
    hashed = manifest.model_copy(update={"files": hashes, "sizes": sizes})
    # older runtimes know no such keys, and refuse a manifest that has them
    unsaid: dict[str, Any] = {"region": True} if hashed.region is None else {}
    if hashed.schema_version < SCHEMA_OF_BUDGETS:
        unsaid["buckets"] = {"__all__": {"for_budgets"}}
    if hashed.memory is None:
        unsaid["memory"] = True
    elif hashed.schema_version < SCHEMA_OF_GROUPS:
        unsaid["memory"] = {"groups"}
    (folder / MANIFEST).write_text(hashed.model_dump_json(indent=1, exclude=unsaid) + "\n")
    return hashed


def named_files(manifest: Manifest) -> list[str]:
    """Every file that the manifest speaks of: the graphs, and last the reference frames."""
    sets = [*manifest.graphs.values(), *(manifest.memory.graphs.values() if manifest.memory else ())]
    graphs = [path for graph_set in sets for path in (graph_set.trunk, *graph_set.tails.values())]
    return [*graphs, manifest.dense, manifest.stem_head, manifest.references]
