"""What COCO's JSON of instances says of its images, and where in the file their annotations are: it is read once for that."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.data.json_records import records

MOST_ID = 1 << 62


@dataclass
class Index:
    """What a file says of its images, and where in it the annotations of each are.

    Attributes:
        categories: names by id, and in `used` how many annotations have each.
        offsets, lengths: of the annotations in the file, those of image i from `begins[i]` to `begins[i + 1]`.
    """

    path: Path
    files: list[str] = field(default_factory=list)
    sizes: "array[int]" = field(default_factory=lambda: array("i"))  # height, width, of one image after the other
    categories: dict[int, str] = field(default_factory=dict)
    used: Counter[int] = field(default_factory=Counter)
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    lengths: "array[int]" = field(default_factory=lambda: array("i"))
    begins: "array[int]" = field(default_factory=lambda: array("i"))


def index_of(path: Path) -> Index:
    """Of a JSON file; that of one that has been read, and has not changed since, is kept.

    Raises:
        InputError: it can't be read, or is none of instances.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        raise InputError(
            f"annotations {path} are not there; correct `labels:` or `path:` in the data-set YAML"
        ) from None
    return _index(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=6)
def _index(path: Path, modified_ns: int, size: int) -> Index:
    found, of_image = Index(path), array("q")
    ids: dict[int, int] = {}
    kinds = set()
    for key, offset, length, value in records(path):
        kinds.add(key)
        try:
            if key == "images":
                if (number := whole(value["id"])) in ids:
                    raise ValueError(
                        f"{found.files[ids[number]]} has the id {number} too, by which annotations are told"
                    )
                ids[number] = len(found.files)
                found.files.append(_text(value["file_name"]))
                found.sizes.extend((whole(value["height"]), whole(value["width"])))
            elif key == "categories":
                found.categories[whole(value["id"])] = _text(value["name"])
            elif key == "annotations":
                of_image.append(whole(value["image_id"]))
                found.used[whole(value["category_id"])] += 1
                found.offsets.append(offset)
                found.lengths.append(length)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise InputError(
                f"annotations {path}: {key} at byte {offset:,}: {reason}; correct it, or export them again"
            ) from None
    if missing := [key for key in ("images", "categories") if key not in kinds]:
        raise InputError(
            f"annotations {path} have no {' and no '.join(missing)}; expected COCO's JSON of instances, with images, "
            "annotations and categories"
        )
    _sort_by_image(found, of_image, ids)
    return found


def _sort_by_image(found: Index, of_image: "array[int]", ids: dict[int, int]) -> None:
    places = np.array([ids.get(each, -1) for each in of_image], np.int64)
    if (places < 0).any():
        lost = of_image[int(np.argmax(places < 0))]
        raise InputError(f"annotations {found.path}: one is of image_id {lost}, and no image has it; export them again")
    order = np.argsort(places, kind="stable")
    found.offsets = array("q", np.array(found.offsets, np.int64)[order].tobytes())
    found.lengths = array("i", np.array(found.lengths, np.int32)[order].tobytes())
    begins = np.searchsorted(places[order], np.arange(len(found.files) + 1))
    found.begins = array("i", begins.astype(np.int32).tobytes())


def whole(value: Any) -> int:
    """An id; exporters write some as text. Raises ValueError, OverflowError: it is no whole number."""
    if not isinstance(value, int | str | float) or isinstance(value, bool) or abs(int(value)) > MOST_ID:
        raise ValueError(f"{str(value)[:40]!r} is no whole number")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{str(value)[:40]!r} is no name")
    try:
        return value if value.isascii() else value.encode("latin-1").decode("utf-8")  # see `records`
    except UnicodeError:
        return value
