"""Checkpoints that edgeprune ships, by name."""

import os
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT

ZOO = "zoo:"


def path_in_zoo(source: str) -> Path:
    """Where the file of `zoo:NAME/FILE` is, if it is there."""
    return ROOT / "zoo" / f"{source[len(ZOO) :]}.safetensors"


def find_in_zoo(source: str, key: str) -> Path:
    """The file of `zoo:NAME/FILE`.

    Args:
        key: of the recipe, for messages.

    Raises:
        InputError: the zoo has no such file, or not in an installed wheel.
    """
    path = path_in_zoo(source)
    if os.path.isfile(path):
        return path
    here = [f"{ZOO}{file.parent.name}/{file.stem}" for file in sorted((ROOT / "zoo").glob("*/*.safetensors"))]
    raise InputError(
        f"{key} {source!r} is not here; this installation has {', '.join(here) or 'none'}. A wheel has not all of them: clone "
        "the repository, or give the path of a .safetensors file"
    )
