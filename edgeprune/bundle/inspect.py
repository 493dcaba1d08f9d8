"""What a bundle is, read from its manifest; runs nothing."""

from typing import Any

from edgeprune.bundle import MANIFEST, Bundle, MemoryEntry
from edgeprune.data.region import Region


def inspect(bundle: Bundle) -> dict[str, Any]:
    """Everything that a person would ask of a bundle, as JSON.

    Returns:
        `bundle`, `name`, `policy`, `target` (a `RuntimeSpec`: {name, engine, threads, ...}), `input` [H, W], `preprocess`,
        `labels` [H, W], `classes`, `depth`, `tokens` (of the whole input), `region` ({share, rows}; null: the whole frame),
        `precisions`,
        `buckets` [{name, first, counts, token_layers, token_share, for_budgets}],
        `engine_choice` and `precision_choice` (what was measured), `run` (the graph set that a run takes),
        `memory` ({refresh, groups, buckets, parity, bytes of a set of the state by precision}; null: it was built without),
        `parity` (rows of the build), `graphs` [{graph, precision, file, bytes}], `files` [{file, bytes}], `bytes` (of all),
        `provenance`, `schema_version`.
    """
    manifest, region = bundle.manifest, Region.of(bundle.manifest.region)
    sizes = {file: bundle.path(file).stat().st_size for file in [MANIFEST, *manifest.files]}
    memory = manifest.memory
    families = [("", *each) for each in manifest.graphs.items()]
    families += [("memory ", *each) for each in memory.graphs.items()] if memory else []
    graphs = [
        {"graph": f"{whose}{graph}", "precision": precision, "file": file, "bytes": sizes[file]}
        for whose, precision, family in families
        for graph, file in [("trunk", family.trunk), *((f"tail {name}", path) for name, path in family.tails.items())]
    ]
    graphs += [
        {"graph": graph, "precision": "fp32", "file": file, "bytes": sizes[file]}
        for graph, file in (("dense", manifest.dense), ("stem+head", manifest.stem_head))
    ]
    return {
        "bundle": str(bundle.folder),
        "name": manifest.name,
        "policy": manifest.policy,
        "target": manifest.target.model_dump(mode="json"),
        "input": [manifest.height, manifest.width],
        "preprocess": manifest.preprocess,
        "labels": [manifest.label_height, manifest.label_width],
        "classes": manifest.names,
        "depth": manifest.depth,
        "tokens": manifest.tokens,
        "region": None if region is None else {"share": region.share, "rows": list(region.rows)},
        "precisions": manifest.precisions,
        "buckets": [
            bucket.model_dump() | {"token_share": bucket.token_layers / (manifest.depth * manifest.tokens)}
            for bucket in manifest.buckets
        ],
        "engine_choice": [row.model_dump() for row in manifest.engine_choice],
        "precision_choice": [row.model_dump() for row in manifest.precision_choice],
        "run": bundle.default_precision(),
        "memory": None if memory is None else _about_memory(memory),
        "parity": [row.model_dump() for row in manifest.parity],
        "graphs": graphs,
        "files": [{"file": file, "bytes": size} for file, size in sizes.items()],
        "bytes": sum(sizes.values()),
        "provenance": manifest.provenance,
        "schema_version": manifest.schema_version,
    }


def _about_memory(memory: MemoryEntry) -> dict[str, Any]:
    return {
        "refresh": memory.refresh,
        "groups": memory.groups,
        "buckets": [bucket.model_dump() for bucket in memory.buckets],
        "parity": [row.model_dump() for row in memory.parity],
        "bytes": {precision: memory.nbytes(precision) for precision in memory.graphs},
    }
