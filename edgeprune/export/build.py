"""`edgeprune build`: checkpoint + calibration + target -> bundle, step by step.

Buckets are placed, graphs exported in every precision of the target, linted, compared with PyTorch; engine and precisions are
chosen where the target leaves them open. Only then does the bundle get its name.
"""

import copy
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import floor
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import write_folder_atomic
from edgeprune.base.table import write_csv
from edgeprune.bundle import (
    Bundle,
    GraphSet,
    Manifest,
    MemoryEntry,
    ParityRow,
    PrecisionRow,
    write_manifest,
)
from edgeprune.bundle.memory import StateTensor
from edgeprune.bundle.opening import not_its_own
from edgeprune.bundle.references import FRAMES
from edgeprune.bundle.target import BOUNDS, SEMANTIC, Target
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.fp16_range import convert_to_fp16
from edgeprune.export.graphs import GraphFamily, export_dense, export_family
from edgeprune.export.host import choose_engine
from edgeprune.export.inputs import BuildInputs
from edgeprune.export.int8 import unquantize_linears
from edgeprune.export.lint import lint_graph
from edgeprune.export.manifest import describe_bundle
from edgeprune.export.memory import MemorySpec, export_memory, memory_rules, plan_memory, state_of
from edgeprune.export.memory_parity import measure_memory_parity
from edgeprune.export.parity import measure_parity
from edgeprune.export.precision import choose_precisions
from edgeprune.export.reference_outputs import REFERENCE_FRAMES, reference_outputs
from edgeprune.export.spec import BuildSpec, describe_build, reference_and_export_models
from edgeprune.export.weights import GRAPHS, write_family, write_single
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.calib import Calib
from edgeprune.runtime.engines.fp16_rounded import round_fp16

logger = logging.getLogger(__name__)
REFERENCES = "references.npz"


def build(target: Target, inputs: BuildInputs, precisions: Sequence[str], out: Path) -> Manifest:
    """Writes the bundle to `out` and returns its manifest; a bundle that is there already is replaced.

    Raises:
        InputError: the checkpoint, the calibration or the target don't fit each other, or `out` holds something else.
        RunError: the lint found something, or parity failed; no bundle is left.
    """
    check_replaceable(out)
    spec = describe_build(target, inputs, precisions)
    planned = plan_memory(spec.model, spec.frames_FHW3) if inputs.memory else None
    logger.info(f"{spec.card.name} for {target.name}: buckets {', '.join(bucket.name for bucket in spec.buckets)}")
    if spec.model.inside is not None:
        logger.info(f"a region of {spec.model.inside.region.share:.1%} of the frame's patches, as its calibration says")
    if spec.model.policy.gated and len(spec.buckets) == 1 < target.buckets.count:
        logger.warning(
            f"one bucket alone: {spec.model.policy.tokens} tokens are too few for smaller ones in steps of "
            f"{target.buckets.multiple}, and no frame is pruned; a target of your own may set `buckets: {{multiple: 8}}`"
        )
    if inputs.reference is None and spec.model.policy.gated:
        logger.warning(
            f"no reference.safetensors beside {inputs.checkpoint.name}: `dense` is its own weights on every token; "
            "--reference CHECKPOINT names another, such as that of the dense phase"
        )

    with write_folder_atomic(out, "bundle") as folder:
        (folder / GRAPHS).mkdir()
        log = BuildLog(folder / "build.log")
        built: dict[str, BuiltPrecision] = {}
        count, about = 1 + (len(spec.buckets) if spec.model.policy.gated else 0), ""
        for number, precision in enumerate(precisions, 1):
            begin = time.monotonic()
            logger.info(f"{precision} ({number} of {len(precisions)}): exporting {count} graphs{about}")
            built[precision] = found = build_precision(spec, precision, folder, log)
            took_s = time.monotonic() - begin
            about = f"; about {took_s:.0f} s with what follows, as {precision} took"
            log.note(f"{precision}: {count} graphs, {len(found.parity)} parity rows, {took_s:.0f} s")
            check_lint(target, found.findings)
            check_parity(target, found.parity, spec.card.model.task)  # before minutes of the next precision
        memory = build_memory(spec, planned, folder, log) if planned else None
        logger.info("dense-fp32 and stem-head: exporting 2 graphs")
        singles = build_singles(spec, folder)
        check_lint(target, singles.findings)
        log.note(f"lint: {len(target.lint)} rules, 0 findings; parity frames from {spec.frames_from}")
        parity = [row for each in built.values() for row in each.parity]
        write_csv(folder / "parity.csv", [row.model_dump() for row in parity])
        graphs = {precision: each.graphs for precision, each in built.items()}
        logger.info(f"reference labels: {len(parity)} buckets, on {REFERENCE_FRAMES} frames")
        write_references(spec, graphs, folder)
        bundle = Bundle(folder, describe_bundle(spec, graphs, singles.paths, parity, REFERENCES, memory))
        if target.candidates:
            bundle = take_fastest_engine(bundle, target, log)
        if target.precision_per_bucket and len(precisions) > 1:
            bundle = take_fastest_precisions(bundle, inputs.calib, log)
        return write_manifest(folder, bundle.manifest)


class BuildLog:
    """The log that a bundle keeps of its build."""

    def __init__(self, path: Path):
        self._path = path

    def note(self, line: str) -> None:
        """Says a line, and writes it down."""
        logger.info(line)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Inside, all that edgeprune's loggers say is written down too, where they are listened to."""
        handler, edgeprune = logging.FileHandler(self._path, encoding="utf-8"), logging.getLogger("edgeprune")
        edgeprune.addHandler(handler)
        try:
            yield
        finally:
            edgeprune.removeHandler(handler)
            handler.close()


@dataclass(frozen=True)
class BuiltPrecision:
    """The graphs of one precision, in their files, how close they are to PyTorch, and what the lint found in them."""

    graphs: GraphSet
    parity: list[ParityRow]
    findings: list[str]


@dataclass(frozen=True)
class BuiltSingles:
    """The graphs beside the buckets, in their files by their key in the manifest, and what the lint found in them."""

    paths: dict[str, str]
    findings: list[str]


def check_replaceable(out: Path) -> None:
    """A folder that is no bundle is not replaced: it may be a home folder, named by mistake. Nor is one with a person's files.

    Raises:
        InputError: it is one.
    """
    others = not_its_own(out) if out.is_dir() and any(out.iterdir()) else []
    if others is None:
        raise InputError(f"{out} is there and is no bundle; name a new folder with --out, or empty this one")
    if others:
        raise InputError(
            f"{out} would be replaced, and {others[0]} in it is none of the bundle's; move it elsewhere, or name a new folder "
            "with --out"
        )


def build_precision(spec: BuildSpec, precision: str, folder: Path, log: BuildLog) -> BuiltPrecision:
    """Exports the family in one precision, converts, lints and writes it, and compares it with PyTorch.

    Raises:
        RunError: an activation is beyond FP16.
    """
    target, frames_FHW3 = spec.target, spec.frames_FHW3
    reference, exported = reference_and_export_models(spec.model, precision, target.dialect)
    family = export_family(exported, spec.buckets, spec.thresholds(precision), target.dialect)
    if spec.is_in_fp16(precision):
        table = folder / f"fp16-range-{precision}.csv"
        family = convert_to_fp16(
            family, frames_FHW3, target.threads, table, lambda line: log.note(f"{precision}: {line}")
        )
    findings = lint_family(precision, family, target.lint)
    graphs = write_family(folder, precision, family)
    rounded = family.changed(round_fp16)
    parity = measure_parity(reference, spec.buckets, precision, rounded, frames_FHW3, target.threads)
    return BuiltPrecision(graphs, parity, findings)


def build_memory(spec: BuildSpec, planned: MemorySpec, folder: Path, log: BuildLog) -> MemoryEntry:
    """The graphs that remember the frames before, in every precision.

    Raises:
        RunError: the lint found something, or parity failed.
    """
    target = spec.target
    graphs: dict[str, GraphSet] = {}
    parity: list[ParityRow] = []
    state: dict[str, list[StateTensor]] = {}
    for precision in spec.precisions:
        begin = time.monotonic()
        logger.info(f"memory, {precision}: exporting {len(planned.buckets)} graphs")
        reference, exported = reference_and_export_models(spec.model, precision, target.dialect)
        family = export_memory(planned, exported, target.dialect)
        if spec.is_in_fp16(precision):  # whose ranges the precision's own graphs were held to
            family = family.changed(to_fp16)
        check_lint(target, lint_family(f"memory {precision}", family, memory_rules(target.lint)))
        graphs[precision] = write_family(folder, f"memory-{precision}", family)
        state[precision] = state_of(family)
        rounded = family.changed(round_fp16)
        rows = measure_memory_parity(planned, reference, precision, rounded, spec.frames_FHW3, target.threads)
        check_parity(target, rows, spec.card.model.task)
        parity += rows
        log.note(f"memory, {precision}: {len(planned.buckets)} graphs, {time.monotonic() - begin:.0f} s")
    return MemoryEntry(
        refresh=planned.refresh,
        groups=planned.groups,
        buckets=list(planned.buckets),
        graphs=graphs,
        state=state,
        parity=parity,
    )


def lint_family(called: str, family: GraphFamily, rules: list[str]) -> list[str]:
    """What the lint finds in its graphs."""
    return [line for name, proto in family.named().items() for line in lint_graph(f"{called} {name}", proto, rules)]


def build_singles(spec: BuildSpec, folder: Path) -> BuiltSingles:
    """The dense FP32 reference, and stem and head without a block, of which `bench` prints the share of the dense time."""
    target = spec.target
    protos = {
        "dense-fp32": export_dense(spec.dense, target.dialect),
        "stem-head": export_dense(_unquantized(spec.model), target.dialect, depth=0),
    }
    findings = [line for name, proto in protos.items() for line in lint_graph(name, proto, target.lint)]
    dense, stem_head = (write_single(folder, name, proto) for name, proto in protos.items())
    return BuiltSingles({"dense": dense, "stem_head": stem_head}, findings)


def _unquantized(model: Segmenter) -> Segmenter:
    plain = copy.deepcopy(model)
    unquantize_linears(plain)
    return plain


def check_lint(target: Target, findings: Sequence[str]) -> None:
    """Raises RunError where there are findings."""
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise RunError(f"graph lint for {target.name}: {findings[0]}{more}; no bundle was written")


def check_parity(target: Target, parity: Sequence[ParityRow], task: str = SEMANTIC) -> None:
    """Raises RunError where a bucket does not answer as PyTorch does."""
    bounds = target.held_to(task)
    for row in parity:
        key, least = bounds.key(row.precision), bounds.least(row.precision)
        share = 0.0 if row.excluded == 1 else row.label_agreement  # nothing was sure, as in a network that gives NaN
        if not share >= least:
            raise RunError(
                f"parity of bucket {row.bucket} in {row.precision}: {share:.2%} equal labels, at least "
                f"{least:.2%} expected (largest logit error {row.max_abs:.3g}); no bundle was written. Where a short training "
                "left many pixels undecided train longer, take --precision fp32, or a target of your own that extends "
                f"{target.name} with `{BOUNDS[task]}: {{{key}: {floor(100 * share) / 100:g}}}`"
            )


def write_references(spec: BuildSpec, graphs: dict[str, GraphSet], folder: Path) -> None:
    """Writes a few frames, and what the written graphs say of them."""
    frames_FHW3 = spec.frames_FHW3[:REFERENCE_FRAMES]
    outputs = reference_outputs(folder, graphs, spec.buckets, frames_FHW3, spec.target.threads, spec.model.head)
    np.savez_compressed(folder / REFERENCES, **{FRAMES: frames_FHW3}, **outputs)  # type: ignore[arg-type]


def take_fastest_engine(bundle: Bundle, target: Target, log: BuildLog) -> Bundle:
    """The bundle for the fastest of the target's candidates on this machine."""
    engine, rows = choose_engine(bundle, target.candidates, bundle.manifest.target.parity.int8)
    log.note(f"engine: {engine}")
    return bundle.seen_with(target=bundle.manifest.target.model_copy(update={"engine": engine}), engine_choice=rows)


def take_fastest_precisions(bundle: Bundle, calib: Calib | None, log: BuildLog) -> Bundle:
    """The bundle whose runs take the fastest precision of each bucket on this machine."""
    with log.noting():
        choice = choose_precisions(bundle, calib)
    log.note(f"a run takes {choice.run}")
    rows = [PrecisionRow(**row) for row in choice.rows("loss_points")]
    return bundle.seen_with(graphs=choice.graphs(bundle.manifest.graphs), run=choice.run, precision_choice=rows)
