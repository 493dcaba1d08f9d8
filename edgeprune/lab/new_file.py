"""The file that a study writes at its end, as a type of an option."""

from pathlib import Path
from typing import Any

import click

from edgeprune.base.files import check_output, make_folder


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
