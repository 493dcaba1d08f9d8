"""Reads a recipe: by its name or from a file, with single keys set on the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.base.beside import away, beside, each_mapping
from edgeprune.base.errors import InputError
from edgeprune.base.reading import EXTENDS, ROOT, find, parse, read_extended
from edgeprune.base.strict_yaml import parse_yaml
from edgeprune.train.recipe import Recipe


def load_recipe(name: str | Path, overrides: list[str] | None = None) -> Recipe:
    """A recipe by name (`edgeprune/train/recipes/`) or path, with `key.key=value` overrides applied before it is checked."""
    folder = ROOT / "train" / "recipes"
    path = find(name, folder, "recipe")
    content = read_extended(path, folder, "recipe", _merged)
    if path.parent != folder:  # a shipped one has names alone
        each_path(content, path.parent, beside)
    for override in overrides or []:
        keys, equals, value = override.partition("=")
        if not equals:
            raise InputError(f"--set {override!r}: expected KEY.KEY=VALUE, for example --set phases.dense.frames=64")
        if keys == EXTENDS:
            raise InputError(f"--set {override!r}: a recipe extends another in its own file; write it there")
        node = content
        *parents, last = keys.split(".")
        for key in parents:
            node = node.setdefault(key, {}) if isinstance(node, dict) else None
        if not isinstance(node, dict):
            raise InputError(f"--set {override!r}: {keys!r} does not lead to a mapping")
        node[last] = parse_yaml(value, f"--set {override!r}: {value!r}")
    return parse(Recipe, content, str(path))


def _merged(base: dict[Any, Any], own: dict[Any, Any]) -> dict[Any, Any]:
    """The keys of both, mapping by mapping; a policy is taken whole, for its options are of its name."""
    nested = {
        key: _merged(base[key], value)
        for key, value in own.items()
        if key != "policy" and isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return base | own | nested


def written_to(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The keys of a recipe as a file in `folder` has them: paths are relative to it."""
    content = recipe.model_dump(mode="json")
    each_path(content, folder, away)
    return content


def each_path(content: Any, folder: Path, put: Callable[[dict[Any, Any], str, Path], None]) -> None:
    """`beside` makes the paths of a recipe, which are relative to it, relative to the working folder, `away` the reverse. Other
    faults are left to `parse`."""
    for node in each_mapping(content, ()):
        put(node, "weights", folder)
        put(node, "head", folder)
    for node in (*each_mapping(content, ("validation",)), *each_mapping(content, ("calibration",))):
        put(node, "data", folder)
    for phase in each_mapping(content, ("phases", "*")):
        put(phase, "start", folder)
        put(phase, "teacher", folder)
        for mix in each_mapping(phase, ("data", "*")):
            put(mix, "data", folder)
