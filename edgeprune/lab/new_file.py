"""The file that a study writes at its end, as a type of an option, and that it is none that it reads."""

from pathlib import Path
from typing import Any

import click

from edgeprune.base.errors import InputError
from edgeprune.base.files import check_output, make_folder
from edgeprune.base.paths import real_path


class NewFile(click.Path):
    """A file that is refused before a study's minutes and hours where it can't be written, as `check_output` says it."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        path = super().convert(value, param, ctx)
        assert isinstance(path, Path)
        make_folder(path.parent, "results")
        check_output(path, "results")
        return path


def refuse_read(out: Path | None, *read: Path | str) -> None:
    """Refuses an output that is a file that the study reads, by whatever name or link, or lies in a folder that it reads.

    Args:
        read: paths, or names that may be paths.
    """
    if out is None:
        return
    place = real_path(out)
    for given in read:
        source = real_path(Path(given))
        if place == source or (source.is_dir() and place.is_relative_to(source)):
            raise InputError(f"--out {out} is, or lies in, {given}, which is read; name a place outside of it")
