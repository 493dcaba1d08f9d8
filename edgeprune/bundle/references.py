"""The reference frames of a bundle and what its graphs answered to them, read with bounds.

They come as a zip of arrays, and a zip of a few kilobytes may hold terabytes.
"""

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import look_at
from edgeprune.bundle.manifest import FULL, Bundle, Manifest

Kind = tuple[type, tuple[int, ...] | None]  # type and shape of an array; None: of frames, of any shape
MOST_BYTES = 1 << 30  # of all arrays; a build keeps a few frames and their answers
FRAMES, LABELS = "frames", "labels"
CLASSES = "classes"
# of answers that are things what an array says of each of them; None: a map as labels are
OF_A_THING: dict[str, Kind] = {
    CLASSES: (np.uint8, ()),
    "scores": (np.float32, ()),
    "boxes": (np.float32, (4,)),
    "masks": (np.uint8, None),
}


def read_references(bundle: Bundle) -> dict[str, np.ndarray]:
    """`frames` (F, H, W, 3) uint8, and by `reference_name` what each bucket answered in each precision, (F, ...); labels are
    (F, label H, label W) uint8, of things there are as many in every frame of a bucket, best score first. Of a memory's buckets
    there is nothing, and the largest answers as FULL does.

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
    expected: dict[str, Kind] = {FRAMES: (np.uint8, (frames, manifest.height, manifest.width, 3))}
    buckets = [FULL] if bundle.remembers else [bucket.name for bucket in manifest.buckets]
    for precision in manifest.precisions:
        for bucket in buckets:
            expected |= _of_a_bucket(manifest, references, frames, precision, bucket)
    for name, (dtype, shape) in expected.items():
        found = references.get(name)
        if found is None or not frames or not is_of(found, frames, dtype, shape):
            said = "is not there" if found is None else f"is {found.dtype} {found.shape}"
            wanted = f"{np.dtype(dtype)} {shape}" if shape else f"{frames} frames"
            raise InputError(f"{path}: {name} {said}, expected {wanted}; {again}")
    return references


def _of_a_bucket(
    manifest: Manifest, references: Mapping[str, np.ndarray], frames: int, precision: str, bucket: str
) -> dict[str, Kind]:
    """What each array of a bucket's answers has to be, by its name; how many things there are its classes say."""
    classes = references.get(reference_name(precision, bucket, CLASSES))
    things = 0 if classes is None or classes.ndim < 2 else classes.shape[1]
    labels = (manifest.label_height, manifest.label_width)
    kinds: dict[str, Kind] = {LABELS: (np.uint8, (frames, *labels))}
    if OF_A_THING.keys() <= set(manifest.outputs):  # another task may have a `boxes` of its own
        for output, (dtype, each) in OF_A_THING.items():
            kinds[output] = (dtype, (frames, things, *(labels if each is None else each)))
    return {
        reference_name(precision, bucket, output): kinds.get(output, (np.uint8, None)) for output in manifest.outputs
    }


def is_of(array: np.ndarray, frames: int, dtype: type, shape: tuple[int, ...] | None) -> bool:
    """Whether an array is of a type and shape; without a shape, whether it holds so many frames."""
    if shape is None:
        return array.shape[:1] == (frames,)
    return array.dtype == dtype and array.shape == shape


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
