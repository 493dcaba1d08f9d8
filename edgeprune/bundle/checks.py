"""What must agree with what in a manifest, beyond the range of each value.

A manifest comes from a file that anybody may have written. Whatever passes here can be shown, opened and run without a
further look: every name leads to something, every count fits the grid.
"""

from collections.abc import Callable, Iterable, Sequence

from edgeprune.base.errors import InputError
from edgeprune.bundle.manifest import (
    MANIFEST,
    MIXED,
    BucketEntry,
    Manifest,
    MemoryEntry,
    ParityRow,
    named_files,
)
from edgeprune.bundle.memory import STILL, group_tokens
from edgeprune.bundle.onnx_files import is_inside
from edgeprune.bundle.precisions import PRECISIONS
from edgeprune.bundle.schema import SCHEMA_OF_BUDGETS, SCHEMA_OF_GROUPS, SCHEMA_OF_MEMORY, SCHEMA_OF_REGIONS
from edgeprune.data.region import Region

HASH_DIGITS = 64
MOST_STATE = 1 << 30  # bytes of a set that a frame leaves for the next; a ViT-S of 4,096 tokens takes 157 MB

Refuse = Callable[[str], InputError]


def check_manifest(manifest: Manifest, where: str) -> None:
    """Refuses a manifest whose parts contradict each other.

    Args:
        where: how a message begins.

    Raises:
        InputError: the first contradiction.
    """

    def refuse(problem: str) -> InputError:
        return InputError(f"{where}: {MANIFEST}: {problem}; copy or build the bundle again")

    _check_sizes(manifest, refuse)
    _check_region(manifest, refuse)
    _check_buckets(manifest, refuse)
    _check_graphs(manifest, refuse)
    _check_parity(manifest.parity, manifest.buckets, manifest.precisions, refuse)
    if manifest.memory is not None:
        _check_memory(manifest, manifest.memory, refuse)
    _check_files(manifest, refuse)


def _check_sizes(manifest: Manifest, refuse: Refuse) -> None:
    height, width = manifest.height, manifest.width
    stride = height // manifest.label_height
    if (manifest.label_height * stride, manifest.label_width * stride) != (height, width):
        labels = f"{manifest.label_height}x{manifest.label_width}"
        raise refuse(f"labels of {labels} are no whole part of an input of {height}x{width}")
    if manifest.tokens > height * width:
        raise refuse(f"{manifest.tokens} tokens of {height}x{width} pixels")
    if len(manifest.palette) != len(manifest.names):
        raise refuse(f"{len(manifest.palette)} colours for {len(manifest.names)} class names")
    _check_unique("class name", manifest.names, refuse)
    _check_unique("output", manifest.outputs, refuse)


def _check_region(manifest: Manifest, refuse: Refuse) -> None:
    region = Region.of(manifest.region)
    if region is None:
        return
    height, width = region.grid
    if manifest.schema_version < SCHEMA_OF_REGIONS:
        raise refuse(f"a region in a manifest of schema {manifest.schema_version}")
    if height * width != manifest.tokens or height * manifest.width != width * manifest.height:
        raise refuse(
            f"a region of {height}x{width} patches, {manifest.tokens} tokens of {manifest.height}x{manifest.width} pixels"
        )


def _check_unique(what: str, names: Sequence[str], refuse: Refuse) -> None:
    again = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if again is not None:
        raise refuse(f"{what} {again!r} is there twice")


def _check_buckets(manifest: Manifest, refuse: Refuse) -> None:
    _check_unique("bucket", [bucket.name for bucket in manifest.buckets], refuse)
    before, most, full = 0, manifest.most_tokens, "region" if manifest.region else "grid"
    for bucket in manifest.buckets:
        if bucket.first <= before:
            raise refuse(f"bucket {bucket.name!r} holds {bucket.first} tokens and the one before it {before}")
        if max(bucket.counts, default=0) > most or bucket.first > most:
            raise refuse(f"bucket {bucket.name!r} has more tokens than the {full}, {most}")
        if not 1 <= bucket.token_layers <= most * manifest.depth:
            raise refuse(f"bucket {bucket.name!r} has {bucket.token_layers} tokens over {manifest.depth} blocks")
        if len(bucket.counts) != len(manifest.buckets[0].counts):
            raise refuse(f"bucket {bucket.name!r} has {len(bucket.counts)} counts, others another number")
        before = bucket.first
    marks = [bucket.for_budgets for bucket in manifest.buckets]
    if any(marks) and manifest.schema_version < SCHEMA_OF_BUDGETS:
        raise refuse(f"buckets for budgets in a manifest of schema {manifest.schema_version}")
    if marks[-1] or marks != sorted(marks, reverse=True):
        raise refuse("buckets for budgets that are not the smallest ones")
    if before != most:
        raise refuse(f"the last bucket holds {before} tokens, expected the full {full}, {most}")


def _check_graphs(manifest: Manifest, refuse: Refuse) -> None:
    _check_unique("precision", manifest.precisions, refuse)
    for precision in manifest.precisions:
        if precision not in PRECISIONS:
            raise refuse(f"precision {precision!r} is unknown; known: {', '.join(PRECISIONS)}")
        if manifest.schema_version < PRECISIONS[precision].schema:
            raise refuse(f"precision {precision} in a manifest of schema {manifest.schema_version}")
        if precision not in manifest.graphs:
            raise refuse(f"precision {precision} has no graphs")
    buckets = [bucket.name for bucket in manifest.buckets]
    for name, graphs in manifest.graphs.items():
        if name not in (*manifest.precisions, MIXED):
            raise refuse(f"graphs of {name!r}, which is none of its precisions")
        if graphs.tails and set(graphs.tails) != set(buckets):
            raise refuse(f"the tails of {name} are of {_list(graphs.tails)}, the buckets are {_list(buckets)}")
        if not graphs.tails and len(buckets) > 1:
            raise refuse(f"{name} has no tails for {len(buckets)} buckets")
    if manifest.run is not None and manifest.run not in manifest.graphs:
        raise refuse(f"a run takes {manifest.run!r}, which has no graphs")


def _list(names: Iterable[str]) -> str:
    shown = list(names)
    return ", ".join(map(repr, shown[:8])) + (" ..." if len(shown) > 8 else "")


def _check_parity(
    rows: Sequence[ParityRow], buckets: Sequence[BucketEntry], precisions: Sequence[str], refuse: Refuse
) -> None:
    names = {bucket.name for bucket in buckets}
    for row in rows:
        if row.bucket not in names or row.precision not in precisions:
            raise refuse(f"a parity row of {row.bucket!r} in {row.precision}, which it does not have")


def _check_memory(manifest: Manifest, memory: MemoryEntry, refuse: Refuse) -> None:
    if manifest.schema_version < SCHEMA_OF_MEMORY:
        raise refuse(f"a memory in a manifest of schema {manifest.schema_version}")
    first, *others = memory.buckets
    if first.name != STILL or first.first or first.token_layers:
        raise refuse(
            f"the first bucket of its memory is {first.name!r} of {first.first} tokens, expected {STILL!r} of 0"
        )
    _check_unique("bucket", [bucket.name for bucket in (*manifest.buckets, *memory.buckets)], refuse)
    _check_groups(manifest, memory, refuse)
    before = 0
    for bucket in others:
        if bucket.counts or bucket.first <= before or bucket.token_layers != bucket.first * manifest.depth:
            raise refuse(
                f"bucket {bucket.name!r} of its memory holds {bucket.first} tokens, {bucket.token_layers} over all blocks"
            )
        before = bucket.first
    if before != manifest.tokens:
        raise refuse(f"the last bucket of its memory holds {before} tokens, expected all, {manifest.tokens}")
    for name, graphs in memory.graphs.items():
        if name not in manifest.precisions or name not in memory.state:
            raise refuse(f"its memory has graphs of {name!r}, which is none of its precisions, or has no state")
        if set(graphs.tails) != {bucket.name for bucket in others}:
            raise refuse(f"the tails of its memory in {name} are of {_list(graphs.tails)}")
        if memory.nbytes(name) > MOST_STATE:
            raise refuse(f"its memory takes {memory.nbytes(name):,} bytes in {name}")
        _check_unique("tensor", [tensor.name for tensor in memory.state[name]], refuse)
    if not memory.graphs:
        raise refuse("its memory has no graphs")
    _check_parity(memory.parity, memory.buckets, list(memory.graphs), refuse)


def _check_groups(manifest: Manifest, memory: MemoryEntry, refuse: Refuse) -> None:
    rows, columns = manifest.grid
    if rows * columns != manifest.tokens:
        raise refuse(f"a memory of {manifest.tokens} tokens, of {rows}x{columns} patches")
    if memory.groups > 1 and manifest.schema_version < SCHEMA_OF_GROUPS:
        raise refuse(f"groups of tokens in a manifest of schema {manifest.schema_version}")
    try:
        group_tokens(manifest.grid, memory.groups)
    except InputError as error:
        raise refuse(f"of its memory, {error}") from None
    odd = next((bucket for bucket in memory.buckets if bucket.first % memory.groups), None)
    if odd is not None:
        raise refuse(f"bucket {odd.name!r} of its memory holds {odd.first} tokens of {memory.groups} groups")


def _check_files(manifest: Manifest, refuse: Refuse) -> None:
    for name, digest in manifest.files.items():
        if not is_inside(name) or name == MANIFEST:
            raise refuse(f"{name!r} is no path inside the bundle")
        if len(digest) != HASH_DIGITS or not set(digest) <= set("0123456789abcdef"):
            raise refuse(f"the hash of {name} is no SHA-256")
    *graphs, references = named_files(manifest)
    suffixes = [(name, ".onnx") for name in graphs] + [(references, ".npz")]
    for name, suffix in suffixes:
        # engines choose a reader by it, of files unhashed, and of an .onnx alone it is known what it reads beside itself
        if not name.endswith(suffix):
            raise refuse(f"{name!r} is no {suffix} file")
        if name not in manifest.files:
            raise refuse(f"it has no hash for {name}")
    if manifest.sizes and manifest.sizes.keys() != manifest.files.keys():
        raise refuse("its sizes are of other files than its hashes")
