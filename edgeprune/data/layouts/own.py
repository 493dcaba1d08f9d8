"""A folder with a data-set YAML of edgeprune's in it, which says what it is."""

from dataclasses import dataclass
from pathlib import Path

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import TEXT_BYTES
from edgeprune.base.reading import read_yaml
from edgeprune.data.layouts.found import Content

KEYS = {"train", "val", "names"}  # and both splits are mappings, while YOLO's data.yaml names folders


@dataclass(frozen=True)
class OwnYaml:
    """A file and its content, with an absolute `path`."""

    path: Path
    content: Content


def own_yaml(folder: Path) -> OwnYaml | None:
    """The data-set YAML in a folder.

    Raises:
        InputError: there are two.
    """
    found = []
    for path in sorted([*folder.glob("*.yaml"), *folder.glob("*.yml")]):
        try:
            if not path.is_file() or path.stat().st_size > TEXT_BYTES:
                continue
            content = read_yaml(path, "data set")
        except (InputError, OSError):
            continue  # something else's
        if (
            isinstance(content, dict)
            and content.keys() >= KEYS
            and all(isinstance(content[key], dict) for key in ("train", "val"))
        ):
            place = content.get("path")
            at = {"path": str((folder.resolve() / place).resolve())} if isinstance(place, str) else {}
            found.append(OwnYaml(path, content | at))
    if len(found) > 1:
        raise InputError(
            f"{folder} holds {len(found)} data-set YAMLs, {found[0].path.name} and {found[1].path.name}; name one: "
            f"{found[0].path}"
        )
    return found[0] if found else None
