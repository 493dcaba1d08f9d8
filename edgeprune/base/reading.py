"""From a YAML file to a checked model: unknown keys are refused with the nearest known one."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edgeprune.base.errors import InputError, choose, nearest
from edgeprune.base.inputs import read_text
from edgeprune.base.strict_yaml import parse_yaml

ROOT = Path(__file__).resolve().parent.parent  # the package's folder
# names of recipes and phases are names of folders and files
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$"
Name = Annotated[str, Field(pattern=NAME, max_length=100)]
Spec = TypeVar("Spec", bound="Strict")
EXTENDS = "extends"  # the key of a file that names the shipped one whose keys it takes over


# what was found, in a message: enough to know it again
_SHOWN = Repr()
_SHOWN.maxstring = _SHOWN.maxother = _SHOWN.maxlong = 80
_SHOWN.maxlevel = 3


class Strict(BaseModel):
    """Refuses keys it does not know, and numbers that are not finite."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), allow_inf_nan=False)


def _known_keys(spec: type[BaseModel], location: tuple[Any, ...]) -> list[str]:
    """Field names of the model that `location` (pydantic's error path without its last part) leads to."""
    models = [spec]
    for part in location:
        tagged = [model for model in models if model.__name__ == part]
        field = models[0].model_fields.get(part) if isinstance(part, str) else None
        if tagged:
            models = tagged
        elif field is not None:
            models = _models_in(field.annotation) or models
        # else an index or a mapping's key
    return list(models[0].model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models_in(part)]


def _kind(content: Any) -> str:
    """What somebody wrote in place of a mapping, in words."""
    return "nothing" if content is None else type(content).__name__


def parse(spec: type[Spec], content: Any, where: str) -> Spec:
    """Checks `content` against `spec`.

    Raises:
        InputError: the first fault, with its place and, for an unknown key, the nearest known one.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a mapping of keys to values, found {_kind(content)}")
    try:
        parsed = spec.model_validate(content)
    except ValidationError as error:
        # an unknown key explains a missing one (a typo gives both), so it is named first
        faults = error.errors(include_url=False, include_context=False)
        fault = min(faults, key=lambda fault: fault["type"] not in ("extra_forbidden", "invalid_key"))
        place = ".".join(str(part) for part in fault["loc"] if part not in ("FolderSplit", "StreetSplit"))[:200]
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])[:200]
            known = _known_keys(spec, fault["loc"][:-1])
            raise InputError(
                f"{where}: unknown key {place!r}; known: {', '.join(known)}{nearest(key, known)}"
            ) from None
        found = "" if fault["type"] == "missing" else f", found {_SHOWN.repr(fault['input'])}"
        if fault["type"] == "literal_error":  # its message quotes the choices
            found += nearest(str(fault["input"])[:200], re.findall(r"'([^']*)'", fault["msg"]))
        problem = fault["msg"].removeprefix("Value error, ")
        problem = (
            "expected a mapping of keys to values"
            if fault["type"] == "model_type"
            else problem[:1].lower() + problem[1:]
        )
        raise InputError(f"{where}: {place}: {problem}{found}") from None
    for at, value in _booleans_as_numbers(content, parsed.model_dump()):
        raise InputError(f"{where}: {'.'.join(at)}: expected a number, found {str(value).lower()}")
    return parsed


def _booleans_as_numbers(written: Any, read: Any) -> Iterator[tuple[list[str], bool]]:
    """Where a file says true or false (in YAML also yes, no, on, off) and pydantic has read 1 or 0: place and value."""
    if isinstance(written, bool) and not isinstance(read, bool):
        yield [], written
    elif isinstance(written, dict) and isinstance(read, dict):
        for key, value in written.items():
            if isinstance(key, bool):
                yield [str(key).lower()], key
            elif key in read:
                yield from (([str(key), *place], found) for place, found in _booleans_as_numbers(value, read[key]))
    elif isinstance(written, list) and isinstance(read, list | tuple):
        for index, pair in enumerate(zip(written, read, strict=False)):
            yield from (([str(index), *place], found) for place, found in _booleans_as_numbers(*pair))


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: the file is missing, unreadable, too large, or no YAML that `parse_yaml` takes.
    """
    return parse_yaml(read_text(path, what), f"{what} {path}")


def read_extended(
    path: Path, folder: Path, what: str, merge: Callable[[dict[Any, Any], dict[Any, Any]], dict[Any, Any]]
) -> Any:
    """The content of a YAML file, merged into that of the one in `folder` that it `extends`, but for its name.

    Args:
        merge: of the other's content and the file's own.

    Raises:
        InputError: as `read_yaml`, or the folder has no such file.
    """
    content = read_yaml(path, what)
    if not isinstance(content, dict) or content.get(EXTENDS) is None:
        return content
    known = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    base = choose(known, str(content[EXTENDS]), f"{what} in {path}: {EXTENDS}")
    merged = merge(read_extended(base, folder, what, merge), content)
    return {key: value for key, value in merged.items() if key != EXTENDS and (key != "name" or key in content)}


def shipped(folder: str) -> Path:
    """A folder of package data: beside the package in a checkout, inside it in an installed wheel."""
    inside = ROOT / folder
    return inside if inside.is_dir() else ROOT.parent / folder


def find(name: str | Path, folder: Path, what: str, or_else: str = "a YAML file") -> Path:
    """`name` as a path where such a file exists, else `<folder>/<name>.yaml`.

    Args:
        or_else: what the caller takes beside such a name.

    Raises:
        InputError: neither exists; the message lists what the folder has.
    """
    name = str(name)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; choices: {', '.join(known)} or {or_else}{nearest(name, known)}")
    return folder / f"{name}.yaml"
