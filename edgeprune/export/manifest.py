"""What a build says of itself: the manifest, of which `bundle/manifest.py` tells the format."""

import platform
from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime
import torch

from edgeprune import __version__
from edgeprune.base.files import sha256
from edgeprune.bundle import BucketEntry, GraphSet, Manifest, MemoryEntry, ParityRow
from edgeprune.bundle.schema import schema_of
from edgeprune.export.spec import BuildSpec
from edgeprune.model.policy import Bucket
from edgeprune.model.segmenter import Segmenter


def describe_bundle(
    spec: BuildSpec,
    graphs: Mapping[str, GraphSet],
    singles: Mapping[str, str],
    parity: list[ParityRow],
    references: str,
    memory: MemoryEntry | None = None,
) -> Manifest:
    """The manifest of files that are not hashed yet, before engine and precisions are chosen.

    Args:
        graphs: by precision, as they were written.
        singles: paths of `dense` and `stem_head`.
        references: path of the reference frames.
        memory: what remembers, where it was built.
    """
    model, card = spec.model, spec.card
    region = list(model.inside.region.rows) if model.inside else None
    return Manifest(
        schema_version=schema_of(
            region,
            spec.precisions,
            any(bucket.for_budgets for bucket in spec.buckets),
            memory.groups if memory else None,
        ),
        name=card.name,
        task=model.spec.task,
        outputs=list(model.head.outputs),
        target=spec.target.runtime(spec.card.model.task),
        height=model.spec.height,
        width=model.spec.width,
        preprocess=model.spec.preprocess,
        label_height=model.spec.height // model.head.label_stride,
        label_width=model.spec.width // model.head.label_stride,
        names=card.names,
        palette=card.palette,
        depth=model.spec.depth,
        tokens=model.grid[0] * model.grid[1],
        region=region,
        policy=card.policy.name,
        precisions=list(spec.precisions),
        buckets=[bucket_entry(bucket, model) for bucket in spec.buckets],
        graphs=dict(graphs),
        memory=memory,
        dense=singles["dense"],
        stem_head=singles["stem_head"],
        parity=parity,
        references=references,
        provenance=_provenance(spec),
        files={},
    )


def bucket_entry(bucket: Bucket, model: Segmenter) -> BucketEntry:
    """A bucket as a manifest names it, and as a run chooses among them."""
    return BucketEntry(
        name=bucket.name,
        counts=list(bucket.counts),
        first=bucket.counts[model.policy.schedule.chosen_by] if bucket.counts else model.policy.tokens,
        token_layers=model.policy.schedule.token_layers(bucket.counts),
        for_budgets=bucket.for_budgets,
    )


def _provenance(spec: BuildSpec) -> dict[str, Any]:
    inputs = spec.inputs
    return {
        "checkpoint": inputs.checkpoint.name,
        "checkpoint_sha256": sha256(inputs.checkpoint),
        "reference": inputs.reference.name if inputs.reference else None,
        "target_sha256": spec.target.sha256(),
        "training": spec.card.provenance,
        "parity_frames": spec.frames_from,
        "calibration_frames": len(inputs.calib.frames) if inputs.calib else 0,
        "edgeprune": __version__,
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
