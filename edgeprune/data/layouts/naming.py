"""The classes of a folder of masks: what a file says of them, or what the masks themselves hold."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.data.classes import BACKGROUND
from edgeprune.data.image import ids_of, open_upright
from edgeprune.data.labels import COLOURS, IDS, LOSSLESS
from edgeprune.data.layouts.found import Content
from edgeprune.data.layouts.legends import VOID, Legend
from edgeprune.data.split import spread

LOOKED_AT = 64  # masks, evenly spread
IGNORED = 255
MOST_COLOURS = 256  # of all masks; more are the blurs of a lossy copy


@dataclass
class Held:
    """What some masks hold: ids, or colours as 24-bit numbers."""

    masks: int
    of: int
    ids: set[int] = field(default_factory=set)
    colours: set[int] = field(default_factory=set)


def look_at_masks(paths: Sequence[Path]) -> Held:
    """Reads some of the masks; one that can't be read is passed over, for the lint says so.

    Raises:
        InputError: they hold more colours than there can be classes.
    """
    chosen = spread(len(paths), LOOKED_AT)
    held = Held(len(chosen), len(paths))
    for index in chosen:
        path = paths[index]
        try:
            found = path.stat()
            ids, colours = _values(path, found.st_mtime_ns, found.st_size)
        except (InputError, OSError, ValueError):
            continue
        held.ids.update(ids)
        held.colours.update(colours)
        if len(held.colours) > MOST_COLOURS:
            raise InputError(
                f"labels such as {path} hold {len(held.colours)} colours and more, which is no palette; a lossy copy (JPEG) or "
                "a scaled one invents colours: export the masks again as PNG"
            )
    return held


@lru_cache(maxsize=4096)
def _values(path: Path, modified_ns: int, size: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    image = open_upright(path, "label", LOSSLESS)
    if image.mode in COLOURS:
        numbers_HW = np.asarray(image)[..., :3].astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
        return (), tuple(np.unique(numbers_HW)[: MOST_COLOURS + 1].tolist())
    return (tuple(np.unique(ids_of(image)).astype(int).tolist()), ()) if image.mode in IDS else ((), ())


def classes_of(legend: Legend | None, held: Held) -> tuple[Content, list[str]]:
    """`names`, and `ids` and colours where they are needed; and what was guessed, a sentence each."""
    if legend is not None:
        return _by_legend(legend, held)
    looked = f"in {held.masks} of {held.of} masks" if held.masks < held.of else f"in the {held.of} masks"
    if held.colours and not held.ids:
        colours = [(number >> 16, number >> 8 & 255, number & 255) for number in sorted(held.colours)]
        names = [f"class_{index}" for index in range(len(colours))]
        note = f"no file names the classes: the {len(colours)} colours {looked} are {names[0]} to {names[-1]}"
        return {"names": names, "palette": [list(colour) for colour in colours]}, [note]
    ids = sorted(held.ids - {IGNORED}) or [0]
    if held.ids == {0, IGNORED}:
        names = ["background", "foreground"]
        note = f"masks hold 0 and {IGNORED} alone: {IGNORED} is taken for a class"
        return {"names": names, "ids": {0: names[0], IGNORED: names[1]}}, [note]
    note = f"no file names the classes: ids {_span(ids)} {looked} are "
    if len(ids) == 1:
        return {"names": [f"class_{index}" for index in range(max(2, ids[0] + 1))]}, [note + "all that there is"]
    if min(ids) == 0 and max(ids) < IGNORED and max(ids) + 1 <= 2 * len(ids):
        names = [f"class_{index}" for index in range(max(ids) + 1)]
        return {"names": names}, [note + f"{names[0]} to {names[-1]}"]
    names = [f"class_{index}" for index in ids]
    none = {} if 0 in ids else {0: "ignore"}
    return {"names": names, "ids": none | dict(zip(ids, names, strict=True))}, [note + f"{names[0]} to {names[-1]}"]


def _span(ids: list[int]) -> str:
    shown = [str(index) for index in ids]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "...", shown[-1]])


def _by_legend(legend: Legend, held: Held) -> tuple[Content, list[str]]:
    names, note = legend.names, [f"classes are those of {legend.path}"]
    if legend.colours and BACKGROUND in names:
        note.append(
            f"{BACKGROUND} is trained as a class; where it is merely what nobody labelled, take it out of `names` and move its "
            "colour from `palette` to `ignore_colours`"
        )
    if legend.colours:
        void = [index for index, name in enumerate(names) if name.lower() in VOID]
        kept = [index for index in range(len(names)) if index not in void]
        content: Content = {
            "names": [names[index] for index in kept],
            "palette": [list(legend.colours[index]) for index in kept],
        }
        if void:
            content["ignore_colours"] = [list(legend.colours[index]) for index in void]
            if held.ids:
                content["ids"] = {index: "ignore" if index in void else name for index, name in enumerate(names)}
        return content, note
    if legend.ids and legend.ids != list(range(len(names))):
        return {"names": names, "ids": dict(zip(legend.ids, names, strict=True))}, note
    if not legend.ids and max(held.ids - {IGNORED}, default=0) == len(names):
        return {"names": [BACKGROUND, *names]}, [*note, "ids in the masks count from 1, so 0 is taken for background"]
    return {"names": names}, note
