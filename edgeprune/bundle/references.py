"""The reference frames of a bundle and the labels that its graphs gave for them, read with bounds.

They come as a zip of arrays, and a zip of a few kilobytes may hold terabytes.
"""

import zipfile
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import look_at
from edgeprune.bundle.manifest import Bundle

MOST_BYTES = 1 << 30  # of all arrays; a build keeps a few frames and their labels
FRAMES = "frames"


def read_references(bundle: Bundle) -> dict[str, np.ndarray]:
    """`frames` (F, H, W, 3) and, by `<precision>/<bucket>`, labels (F, label H, label W); all uint8.

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
    expected = {FRAMES: (frames, manifest.height, manifest.width, 3)} | {
        f"{precision}/{bucket.name}": (frames, manifest.label_height, manifest.label_width)
        for precision in manifest.precisions
        for bucket in manifest.buckets
    }
    for name, shape in expected.items():
        found = references.get(name)
        if not frames or found is None or found.dtype != np.uint8 or found.shape != shape:
            said = "is not there" if found is None else f"is {found.dtype} {found.shape}"
            raise InputError(f"{path}: {name} {said}, expected uint8 {shape}; {again}")
    return references


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
        if size > MOST_BYTES:
            raise ValueError(f"it holds {size:,} bytes")
    with np.load(path, allow_pickle=False) as content:
        return {name: content[name] for name in content.files}
