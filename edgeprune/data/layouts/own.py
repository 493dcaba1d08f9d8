"""A folder with a data-set YAML of edgeprune's in it, which says what it is."""

from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import TEXT_BYTES
from edgeprune.base.reading import read_yaml


def own_yaml(folder: Path) -> Path | None:
    """The data-set YAML in a folder.

    Raises:
        InputError: there are two.
    """
    found = [path for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]) if _is_ours(path)]
    if len(found) > 1:
        raise InputError(
            f"{folder} holds {len(found)} data-set YAMLs, {found[0].name} and {found[1].name}; name one: {found[0]}"
        )
    return found[0] if found else None


def _is_ours(path: Path) -> bool:
    """Whether it has the keys of one; YOLO's data.yaml names folders in place of splits that are mappings."""
    try:
        if not path.is_file() or path.stat().st_size > TEXT_BYTES:
            return False
        content: Any = read_yaml(path, "data set")
    except (InputError, OSError):
        return False  # something else's
    if not isinstance(content, dict):
        return False
    return {"path", "layout"} <= content.keys() or all(isinstance(content.get(key), dict) for key in ("train", "val"))
