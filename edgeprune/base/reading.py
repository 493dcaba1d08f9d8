"""From a YAML file to a checked model: unknown keys are refused with the nearest known one."""

import os
from pathlib import Path
from reprlib import Repr
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from edgeprune.base.errors import InputError, nearest
from edgeprune.base.inputs import read_text
from edgeprune.base.strict_yaml import parse_yaml

ROOT = Path(__file__).resolve().parent.parent  # the package's folder
Spec = TypeVar("Spec", bound="Strict")


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


def parse(spec: type[Spec], content: Any, where: str) -> Spec:
    """Checks `content` against `spec`.

    Raises:
        InputError: the first fault, with its place and, for an unknown key, the nearest known one.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where}: expected a mapping of keys to values, found {type(content).__name__}")
    try:
        return spec.model_validate(content)
    except ValidationError as error:
        # an unknown key explains a missing one (a typo gives both), so it is named first
        faults = error.errors(include_url=False, include_context=False)
        fault = min(faults, key=lambda fault: fault["type"] not in ("extra_forbidden", "invalid_key"))
        place = ".".join(str(part) for part in fault["loc"] if part not in ("FolderSplit", "StreetSplit"))
        if fault["type"] == "extra_forbidden":
            key = str(fault["loc"][-1])
            known = _known_keys(spec, fault["loc"][:-1])
            raise InputError(
                f"{where}: unknown key {place!r}; known: {', '.join(known)}{nearest(key, known)}"
            ) from None
        found = "" if fault["type"] == "missing" else f", found {_SHOWN.repr(fault['input'])}"
        problem = "expected a mapping of keys to values" if fault["type"] == "model_type" else fault["msg"].lower()
        raise InputError(f"{where}: {place}: {problem}{found}") from None


def read_yaml(path: Path, what: str) -> Any:
    """The content of a YAML file.

    Raises:
        InputError: the file is missing, unreadable, too large, or no YAML that `parse_yaml` takes.
    """
    return parse_yaml(read_text(path, what), f"{what} {path}")


def shipped(folder: str) -> Path:
    """A folder of package data: beside the package in a checkout, inside it in an installed wheel."""
    inside = ROOT / folder
    return inside if inside.is_dir() else ROOT.parent / folder


def find(name: str | Path, folder: Path, what: str) -> Path:
    """`name` as a path where such a file exists, else `<folder>/<name>.yaml`.

    Raises:
        InputError: neither exists; the message lists what the folder has.
    """
    name = str(name)
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or os.path.isfile(path):
        return path
    known = sorted(file.stem for file in folder.glob("*.yaml"))
    if name not in known:
        raise InputError(f"unknown {what} {name!r}; choices: {', '.join(known)} or a YAML file{nearest(name, known)}")
    return folder / f"{name}.yaml"
