"""`edgeprune build`: checkpoint + calibration + target -> bundle.

Buckets are placed, graphs exported in every precision of the target, linted, compared with PyTorch; only then does the
bundle get its name.
"""

import copy
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch

from edgeprune import __version__
from edgeprune.base.errors import InputError, RunError
from edgeprune.base.files import sha256, write_folder_atomic
from edgeprune.base.table import write_csv
from edgeprune.bundle import MANIFEST, SCHEMA, BucketEntry, GraphSet, Manifest, ParityRow, open_bundle, write_manifest
from edgeprune.bundle.target import Target
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.family import place_buckets
from edgeprune.export.fp16 import to_fp16
from edgeprune.export.fp16_range import measure_range, say_range
from edgeprune.export.graphs import export_dense, export_tail, export_trunk
from edgeprune.export.host import choose_engine
from edgeprune.export.int8 import unquantize_linears
from edgeprune.export.lint import lint_graph
from edgeprune.export.parity import compare
from edgeprune.export.precision import choose_precisions
from edgeprune.export.sources import Sources, check_calib, find_sources, frames_for_parity, load_dense, twins
from edgeprune.export.weights import WeightFile, write_graph
from edgeprune.model.checkpoint import Card
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.loading import load
from edgeprune.runtime.engines.fp16_rounded import check_rounding, round_fp16

Say = Callable[[str], None]
REFERENCE_FRAMES = 4


def build(target: Target, sources: Sources, precisions: Sequence[str], out: Path, say: Say) -> Manifest:
    """Writes the bundle to `out` and returns its manifest; a bundle that is there already is replaced.

    Raises:
        InputError: the checkpoint, the calibration or the target don't fit each other, or `out` holds something else.
        RunError: the lint found something, or parity failed; no bundle is left.
    """
    _check_replaceable(out)
    if "fp16" in (*precisions, target.beside_int8):
        check_rounding()  # parity would be FP32's
    model, card = load(sources.checkpoint, sources.size)
    if model.policy.not_exportable:
        raise InputError(f"policy {card.policy.name} has no graph of constant shapes: {model.policy.not_exportable}")
    dense = load_dense(sources, model)
    quantized = any(True for _ in quantized_linears(model))
    if "int8" in precisions and not quantized:
        raise InputError(
            f"{sources.checkpoint} has no quantization scales; train a qat phase or build with --precision fp32"
        )
    calib = sources.calib
    if model.policy.gated and calib is None:
        raise InputError(
            f"no calibration for {card.name}: gate thresholds are measured on frames; "
            f"run `edgeprune calibrate {sources.checkpoint} --data YOUR.yaml`"
        )
    occupancy = None
    if calib is not None and model.policy.gated:
        check_calib(calib, model, precisions)
        occupancy = calib.occupancy.get("int8") or calib.occupancy.get("fp32")
    buckets = place_buckets(model.policy.schedule, target.buckets, occupancy)
    frames_FHW3, frames_from = frames_for_parity(calib, Preprocess.of(model.spec))
    say(f"{card.name} for {target.name}: buckets {', '.join(bucket.name for bucket in buckets)}")
    if sources.reference is None and model.policy.gated:
        say(f"no reference.safetensors beside {sources.checkpoint.name}: `dense` is its own weights on every token")

    graphs: dict[str, GraphSet] = {}
    parity: list[ParityRow] = []
    findings: list[str] = []
    references: dict[str, npt.NDArray[Any]] = {"frames": frames_FHW3[:REFERENCE_FRAMES]}
    with write_folder_atomic(out, "bundle") as folder:
        (folder / "graphs").mkdir()

        def write(*lines: str) -> None:
            with (folder / "build.log").open("a", encoding="utf-8") as log:
                log.writelines(f"{line}\n" for line in lines)

        def note(line: str) -> None:
            say(line)
            write(line)

        count, took_s = 1 + (len(buckets) if model.policy.gated else 0), 0.0
        for number, precision in enumerate(precisions, 1):
            begin = time.monotonic()
            about = f"; about {took_s:.0f} s with what follows, as {precisions[number - 2]} took" if took_s else ""
            say(f"{precision} ({number} of {len(precisions)}): exporting {count} graphs{about}")
            reference_model, graph_model = twins(model, precision, target.dialect)
            thresholds = calib.thresholds_of(precision) if calib is not None else []
            trunk, tails = export_family(graph_model, buckets, thresholds, target.dialect)
            if "fp16" in (precision, target.beside_int8):
                ranges = measure_range(trunk, tails, frames_FHW3, target.threads)
                write_csv(folder / f"fp16-range-{precision}.csv", ranges)
                note(f"{precision}: {say_range(ranges)}")
                trunk, tails = to_fp16(trunk), {name: to_fp16(tail) for name, tail in tails.items()}
            for name, proto in {"trunk": trunk, **tails}.items():
                findings += lint_graph(f"{precision} {name}", proto, target.lint)
            graphs[precision] = _write_family(folder, precision, trunk, tails)
            answering, *rest = map(round_fp16, (trunk, *tails.values()))
            rows = compare(reference_model, buckets, precision, answering, rest, frames_FHW3, target.threads, say)
            parity += rows
            took_s = time.monotonic() - begin
            note(f"{precision}: {len(tails) + 1} graphs, {len(rows)} parity rows, {took_s:.0f} s")
        say("dense-fp32 and stem-head: exporting 2 graphs")
        singles = {"dense-fp32": export_dense(dense, target.dialect), "stem-head": _stem_head(model, target)}
        for name, proto in singles.items():
            findings += lint_graph(name, proto, target.lint)
        dense_path, stem_head = (_write_single(folder, name, proto) for name, proto in singles.items())
        note(f"lint: {len(target.lint)} rules, {len(findings)} findings; parity frames from {frames_from}")
        _check(target, findings, parity)
        write_csv(folder / "parity.csv", [row.model_dump() for row in parity])
        say(f"reference labels: {len(parity)} buckets, on {REFERENCE_FRAMES} frames")
        references |= _reference_labels(folder, graphs, buckets, references)
        np.savez_compressed(folder / "references.npz", **references)  # type: ignore[arg-type]
        manifest = Manifest(
            schema_version=SCHEMA,
            name=card.name,
            target=target,
            height=model.spec.height,
            width=model.spec.width,
            preprocess=model.spec.preprocess,
            label_height=model.spec.height // model.head.label_stride,
            label_width=model.spec.width // model.head.label_stride,
            names=card.names,
            palette=card.palette,
            depth=model.spec.depth,
            tokens=model.policy.tokens,
            policy=card.policy.name,
            precisions=list(precisions),
            buckets=[_entry(bucket, model) for bucket in buckets],
            graphs=graphs,
            dense=dense_path,
            stem_head=stem_head,
            parity=parity,
            lint=findings,
            references="references.npz",
            provenance=_provenance(sources, card, frames_from),
            files={},
        )
        write_manifest(folder, manifest)
        if target.candidates:
            engine, manifest.engine_choice = choose_engine(
                open_bundle(folder), target.candidates, target.parity.int8, say
            )
            note(f"engine: {engine}")
            manifest.target = target.model_copy(update={"engine": engine})
            write_manifest(folder, manifest)
        if target.precision_per_bucket and len(precisions) > 1:
            said: list[str] = []  # the bundle is hashed while they are chosen, its log too

            def remember(line: str) -> None:
                say(line)
                said.append(line)

            manifest.run, mixed, manifest.precision_choice = choose_precisions(open_bundle(folder), calib, remember)
            write(*said)
            if mixed:
                manifest.graphs[manifest.run] = mixed
            note(f"a run takes {manifest.run}")
            write_manifest(folder, manifest)
    return manifest


def _check_replaceable(out: Path) -> None:
    """A folder that is no bundle is not replaced: it may be a home folder, named by mistake."""
    if out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file():
        raise InputError(f"{out} is there and is no bundle; name a new folder with --out, or empty this one")


def export_family(
    model: Segmenter, buckets: list[Bucket], thresholds: Sequence[float], dialect: str
) -> tuple[onnx.ModelProto, dict[str, onnx.ModelProto]]:
    """Trunk and tails by bucket; a policy without gates is one graph from frame to labels, and no tails.

    Args:
        thresholds: of each decision.
    """
    if not model.policy.gated:
        return export_dense(model, dialect), {}
    trunk = export_trunk(model, thresholds)
    return trunk, {bucket.name: export_tail(model, bucket, dialect) for bucket in buckets}


def _write_family(folder: Path, precision: str, trunk: onnx.ModelProto, tails: dict[str, onnx.ModelProto]) -> GraphSet:
    weights = WeightFile(folder / "graphs" / f"{precision}.weights")
    paths = {}
    for name, proto in {"trunk": trunk, **{f"tail-{name}": proto for name, proto in tails.items()}}.items():
        paths[name] = f"graphs/{precision}-{name}.onnx"
        write_graph(proto, folder / paths[name], weights)
    weights.close()
    return GraphSet(trunk=paths["trunk"], tails={name: paths[f"tail-{name}"] for name in tails})


def build_dense(checkpoint: Path, manifest: Manifest, folder: Path) -> Path:
    """The dense FP32 reference of a bundle that leaves it out, written to `folder`.

    Raises:
        InputError: the checkpoint is not the one that the bundle was built from, or the reference it had then is missing.
    """
    if sha256(checkpoint) != manifest.provenance.get("checkpoint_sha256"):
        raise InputError(
            f"the bundle leaves its dense reference out and was not built from {checkpoint}; "
            "build it again with the reference, from its own checkpoint"
        )
    sources = find_sources(checkpoint, None, None, (manifest.height, manifest.width))
    if sources.reference is None and (name := manifest.provenance.get("reference")):
        raise InputError(
            f"the bundle's dense reference, {name}, is not beside {checkpoint}; a wheel leaves it out: work from a clone"
        )
    model, _ = load(checkpoint, sources.size)
    (folder / "graphs").mkdir()
    return folder / _write_single(
        folder, "dense-fp32", export_dense(load_dense(sources, model), manifest.target.dialect)
    )


def _stem_head(model: Segmenter, target: Target) -> onnx.ModelProto:
    """Stem and head without a block: `bench` prints their share of the dense time."""
    plain = copy.deepcopy(model)
    unquantize_linears(plain)
    return export_dense(plain, target.dialect, depth=0)


def _write_single(folder: Path, name: str, proto: onnx.ModelProto) -> str:
    weights = WeightFile(folder / "graphs" / f"{name}.weights")
    write_graph(proto, folder / "graphs" / f"{name}.onnx", weights)
    weights.close()
    return f"graphs/{name}.onnx"


def _check(target: Target, findings: list[str], parity: list[ParityRow]) -> None:
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise RunError(f"graph lint for {target.name}: {findings[0]}{more}; no bundle was written")
    for row in parity:
        least = getattr(target.parity, row.precision)
        if not row.label_agreement >= least:
            raise RunError(
                f"parity of bucket {row.bucket} in {row.precision}: {row.label_agreement:.2%} equal labels, at least "
                f"{least:.2%} expected (largest logit error {row.max_abs:.3g}); no bundle was written"
            )


def _reference_labels(
    folder: Path, graphs: dict[str, GraphSet], buckets: list[Bucket], references: dict[str, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The labels that the written graphs give for the reference frames, by `<precision>/<bucket>`; FP16 is rounded."""

    def open_graph(path: str) -> ort.InferenceSession:
        model = round_fp16(onnx.load(folder / path))
        return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    labels: dict[str, npt.NDArray[Any]] = {}
    for precision, graph_set in graphs.items():
        trunk = open_graph(graph_set.trunk)
        names = [value.name for value in trunk.get_outputs()]
        tails = {name: open_graph(path) for name, path in graph_set.tails.items()}
        found: dict[str, list[npt.NDArray[Any]]] = {bucket.name: [] for bucket in buckets}
        for frame_HW3 in references["frames"]:
            state = dict(zip(names, trunk.run(None, {"frame": frame_HW3}), strict=True))
            if not tails:
                found[buckets[0].name].append(state["labels"])
            for name, tail in tails.items():
                feeds = {value.name: state[value.name] for value in tail.get_inputs()}
                found[name].append(tail.run(None, feeds)[0])
        labels |= {f"{precision}/{name}": np.stack(rows) for name, rows in found.items()}
    return labels


def _entry(bucket: Bucket, model: Segmenter) -> BucketEntry:
    return BucketEntry(
        name=bucket.name,
        counts=list(bucket.counts),
        first=bucket.counts[model.policy.schedule.chosen_by] if bucket.counts else model.policy.tokens,
        token_layers=model.policy.schedule.token_layers(bucket.counts),
    )


def _provenance(sources: Sources, card: Card, frames_from: str) -> dict[str, Any]:
    return {
        "checkpoint": sources.checkpoint.name,
        "checkpoint_sha256": sha256(sources.checkpoint),
        "reference": sources.reference.name if sources.reference else None,
        "training": card.provenance,
        "parity_frames": frames_from,
        "calibration_frames": len(sources.calib.frames) if sources.calib else 0,
        "edgeprune": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": ort.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
