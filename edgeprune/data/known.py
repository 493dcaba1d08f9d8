"""Classes of well-known data sets, as data in `edgeprune/data/known/`: `names: cityscapes`, say, stands for them."""

from functools import cache
from typing import Any

from pydantic import Field

from edgeprune.base.errors import InputError, nearest
from edgeprune.base.reading import ROOT, Strict, parse, read_yaml

FOLDER = ROOT / "data" / "known"
REDUCE_ZERO_LABEL = "reduce_zero_label"  # of `ids`: 0 is of no class, and 1, 2, 3 ... are the classes in their order


class KnownClasses(Strict):
    """`ids`: the class of each id in the files as they are distributed, where those are not 0, 1, 2 ... `things`: the classes
    that are."""

    names: list[str]
    things: list[str]
    ids: dict[int, str] = {}
    palette: list[tuple[int, int, int]] = Field([])


@cache
def known_classes(name: str) -> KnownClasses:
    """Raises InputError: no such set; the message lists those that there are."""
    known = sorted(file.stem for file in FOLDER.glob("*.yaml"))
    if name not in known:
        raise InputError(f"unknown classes {name!r}; choices: {', '.join(known)}{nearest(name, known)}")
    path = FOLDER / f"{name}.yaml"
    return parse(KnownClasses, read_yaml(path, "classes"), str(path))


def spell_out(content: dict[str, Any], ignore: str) -> dict[str, Any]:
    """A data set's YAML with what words stand for in `names` and `ids` in their place."""
    content = dict(content)
    if isinstance(name := content.get("names"), str):
        known = known_classes(name)
        content["names"] = known.names
        content.setdefault("things", known.things)
        if known.palette:
            content.setdefault("palette", known.palette)
    ids, names = content.get("ids"), content.get("names")
    if isinstance(ids, str) and isinstance(names, list):
        if ids == REDUCE_ZERO_LABEL:
            content["ids"] = {0: ignore} | dict(enumerate(names, start=1))
        else:
            content["ids"] = known_classes(ids).ids or dict(enumerate(known_classes(ids).names))
    return content
