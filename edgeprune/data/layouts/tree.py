"""The files and folders below a data set's folder, by their paths as text; each folder is listed once."""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from edgeprune.base.errors import InputError

# what people call the splits, in small letters
SPLIT_NAMES = {
    "train": ("train", "training", "train2017", "train2014"),
    "val": ("val", "valid", "validation", "dev", "val2017", "val2014"),
    "test": ("test", "testing"),
}
MOST_FOLDERS = 20_000  # a home folder that was named by mistake has more


class Tree:
    """A folder as it was when it was looked at; names that begin with a dot are left alone.

    Raises:
        InputError: a folder in it can't be read, or there are too many.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _listing(self) -> dict[str, tuple[list[str], list[str]]]:
        """By folder its folders and its files, ascending."""

        def refuse(error: OSError) -> None:
            raise InputError(f"folder {error.filename} can't be read ({error.strerror}); let yourself read it")

        found: dict[str, tuple[list[str], list[str]]] = {}
        for here, folders, files in os.walk(self.root, onerror=refuse):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            if len(found) > MOST_FOLDERS:
                raise InputError(
                    f"{self.root} holds more than {MOST_FOLDERS:,} folders; name that of the data set, or write its YAML"
                )
            below = os.path.relpath(here, self.root).replace(os.sep, "/")
            found["" if below == "." else below] = list(folders), sorted(each for each in files if each[0] != ".")
        return found

    def folders(self, place: str = "") -> list[str]:
        """The names of the folders in a folder."""
        return self._listing.get(place, ([], []))[0]

    def files(self, place: str = "") -> list[str]:
        """The names of the files in a folder."""
        return self._listing.get(place, ([], []))[1]

    def has(self, place: str) -> bool:
        """Whether there is such a folder or file."""
        parent, _, name = place.rpartition("/")
        return place in self._listing or name in self.files(parent)

    def below(self, place: str, suffixes: Sequence[str]) -> list[str]:
        """The files of a folder and all below it that end in `suffixes`, by their paths below it."""
        ends, prefix = tuple(suffixes), f"{place}/" if place else ""
        return [
            f"{folder}/{name}".removeprefix(prefix) if folder else name
            for folder, (_, files) in self._listing.items()
            if folder == place or folder.startswith(prefix)
            for name in files
            if name.lower().endswith(ends)
        ]

    def splits(self, place: str = "") -> dict[str, str]:
        """The folders of splits in a folder, by split."""
        names = {name.lower(): name for name in self.folders(place)}
        return {
            split: names[known]
            for split, all_known in SPLIT_NAMES.items()
            if (known := next((each for each in all_known if each in names), None))
        }


def join(*parts: str) -> str:
    """A path of the parts that are not empty."""
    return "/".join(part for part in parts if part)
