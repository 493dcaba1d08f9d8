"""The bundle, the border between training and the device: manifest, hashes, and what of it is checked when it is opened."""

from edgeprune.bundle.manifest import (
    DENSE,
    FULL,
    GRAPH_SETS,
    MANIFEST,
    MIXED,
    BucketEntry,
    Bundle,
    EngineRow,
    GraphSet,
    Manifest,
    MemoryEntry,
    ParityRow,
    PrecisionRow,
    write_manifest,
)
from edgeprune.bundle.opening import open_bundle
from edgeprune.bundle.precisions import PRECISIONS
from edgeprune.bundle.references import read_references
from edgeprune.bundle.schema import SCHEMA

__all__ = [
    "DENSE",
    "FULL",
    "GRAPH_SETS",
    "MANIFEST",
    "MIXED",
    "PRECISIONS",
    "SCHEMA",
    "BucketEntry",
    "Bundle",
    "EngineRow",
    "GraphSet",
    "Manifest",
    "MemoryEntry",
    "ParityRow",
    "PrecisionRow",
    "open_bundle",
    "read_references",
    "write_manifest",
]
