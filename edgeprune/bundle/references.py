"""The reference frames of a bundle and what its graphs answered to them, read with bounds.

They come as a zip of arrays, and a zip of a few kilobytes may hold terabytes.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import look_at
from edgeprune.bundle.manifest import Bundle

MOST_BYTES = 1 << 30  # of all arrays; a build keeps a few frames and their answers
FRAMES, LABELS = "frames", "labels"


def read_references(bundle: Bundle) -> dict[str, np.ndarray]:
    """`frames` (F, H, W, 3) uint8, and by `reference_name` what each bucket answered in each precision, (F, ...); labels are
    (F, label H, label W) uint8.

    Raises:
        InputError: no such file, one of another bundle, or larger than any that is built.
    """
    manifest, path = bundle.manifest, bundle.path(bundle.manifest.references)
    again = "copy or build the bundle again"
    look_at(path, "reference frames")
    try:
        references = _arrays(path)
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} can't be read ({error}); {again}") from None
    frames = len(references.get(FRAMES, ()))
    labels = (frames, manifest.label_height, manifest.label_width)
    expected = {FRAMES: (frames, manifest.height, manifest.width, 3)} | {
        reference_name(precision, bucket.name, output): labels if output == LABELS else None
        for precision in manifest.precisions
        for bucket in manifest.buckets
        for output in manifest.outputs
    }
    for name, shape in expected.items():
        found = references.get(name)
        if found is None or not frames or not is_of(found, frames, shape):
            said = "is not there" if found is None else f"is {found.dtype} {found.shape}"
            wanted = f"uint8 {shape}" if shape else f"{frames} frames"
            raise InputError(f"{path}: {name} {said}, expected {wanted}; {again}")
    return references


def is_of(array: np.ndarray, frames: int, shape: tuple[int, ...] | None) -> bool:
    """Whether an array is uint8 of a shape; without one, whether it holds so many frames."""
    if shape is None:
        return array.shape[:1] == (frames,)
    return array.dtype == np.uint8 and array.shape == shape


def reference_name(precision: str, bucket: str, output: str) -> str:
    """The name of an answer's array: `fp32/full` of the labels, which were the first there were, else `fp32/full/<output>`."""
    return f"{precision}/{bucket}" if output == LABELS else f"{precision}/{bucket}/{output}"


def answers_of(
    bundle: Bundle, references: Mapping[str, np.ndarray], precision: str, bucket: str
) -> Iterator[dict[str, np.ndarray]]:
    """What a bucket answered, frame after frame, by the names of its outputs."""
    names = {output: reference_name(precision, bucket, output) for output in bundle.manifest.outputs}
    for index in range(len(references[FRAMES])):
        yield {output: references[name][index] for output, name in names.items()}


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it holds {size:,} bytes")
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
