"""Paths in a YAML file are relative to that file, wherever the command is typed."""

from collections.abc import Callable, Iterator, Sequence
from os.path import exists, isdir, isfile, realpath, relpath
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT

# how a value of each key looks that is a path, and no name of something that ships or of an earlier phase
PATHS: dict[str, tuple[str, ...]] = {
    "data": (".yaml", ".yml"),
    "recipe": (".yaml", ".yml"),
    "target": (".yaml", ".yml"),
    "weights": ("",),  # a file, or a folder of them
    "dense": (".safetensors",),
    "head": (".safetensors",),
    "start": (".safetensors",),
    "teacher": (".safetensors",),
}
PLACES = ("zoo:", "hub:")  # what is no path although it may end as one


def each_mapping(content: Any, keys: Sequence[str]) -> Iterator[dict[Any, Any]]:
    """The mappings at `keys` ("*": every item of a mapping or list); none where the content is of another form."""
    if not keys:
        if isinstance(content, dict):
            yield content
        return
    if keys[0] != "*":
        items = [content[keys[0]]] if isinstance(content, dict) and keys[0] in content else []
    else:
        items = list(content.values()) if isinstance(content, dict) else content if isinstance(content, list) else []
    for item in items:
        yield from each_mapping(item, keys[1:])


def change(node: dict[Any, Any], key: str, by: Callable[[Any], Any]) -> None:
    """Changes the value of a key, or each of a list; nothing where there is none."""
    if key in node:
        value = node[key]
        node[key] = [by(each) for each in value] if isinstance(value, list) else by(value)


def beside(node: dict[Any, Any], key: str, folder: Path) -> None:
    """Where the value is a relative path, or a list with some, puts `folder` before it.

    Raises:
        InputError: nothing is there, but something is in the working folder, which paths were once relative to.
    """
    change(node, key, lambda value: _beside(value, key, folder))


def _beside(value: Any, key: str, folder: Path) -> Any:
    """The value, with `folder` before it where it is a relative path."""
    if not isinstance(value, str) or value.startswith(PLACES):
        return value
    path = folder / value
    if not value.endswith(PATHS[key]) and not isfile(path) and not (key == "data" and _may_be_folder(value, folder)):
        return value
    if not exists(path) and exists(value) and not Path(value).is_absolute():
        raise InputError(
            f"{key}: {value} is not in {folder}, but in the working folder; paths in a YAML file are relative to the file: "
            f"write {relpath(value, folder)}"
        )
    return str(path)


def away(node: dict[Any, Any], key: str, folder: Path) -> None:
    """The reverse of `beside`: where the value is a path relative to the working folder, or a list with some, makes it relative
    to `folder`, in which the YAML file is written."""
    change(node, key, lambda value: _away(value, key, folder))


def _away(value: Any, key: str, folder: Path) -> Any:
    """The value, relative to `folder` where it is a relative path."""
    if not isinstance(value, str) or value.startswith(PLACES) or Path(value).is_absolute():
        return value
    is_path = value.endswith(PATHS[key]) or isfile(value) or (key == "data" and _may_be_folder(value, folder))
    return relpath(realpath(value), realpath(folder)) if is_path else value  # `..` leads out of what a link leads to


def _may_be_folder(data: str, folder: Path) -> bool:
    """Whether a data set is a folder of images, and no name of one that ships."""
    ships = isfile(ROOT / "data" / "sets" / f"{Path(data).name}.yaml") and Path(data).name == data
    return not ships and (isdir(folder / data) or isdir(data))
