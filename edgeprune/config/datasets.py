"""A data set: images, labels, and what the label ids mean."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from edgeprune.config.reading import ROOT, Strict, find, parse, read_yaml
from edgeprune.errors import InputError


class FolderSplit(Strict):
    """Images and labels of equal stem in two folders, relative to the data set's `path`.

    `include` and `exclude` are globs over the file stem (`"0016E5*"`), for leaving a drive out.
    """

    images: Path
    labels: Path
    include: list[str] = ["*"]
    exclude: list[str] = []


class StreetSplit(Strict):
    """`frames` scenes of the synthetic street, seeds counted from `seed`."""

    seed: int
    frames: int = Field(ge=1)
    height: int = Field(384, ge=32)
    width: int = Field(512, ge=32)


def _kind_of_split(content: Any) -> str:
    """Which split a mapping means to be, so that a typo in one is not checked against the other."""
    if isinstance(content, Strict):
        return type(content).__name__
    return "StreetSplit" if isinstance(content, dict) and {"seed", "frames"} & content.keys() else "FolderSplit"


Split = Annotated[
    Annotated[FolderSplit, Tag("FolderSplit")] | Annotated[StreetSplit, Tag("StreetSplit")],
    Discriminator(_kind_of_split),
]
Byte = Annotated[int, Field(ge=0, le=255)]


class DataSet(Strict):
    """A data set: where its images and labels are, what the label ids mean.

    `path` is relative to the YAML file. A data set without `path` is the synthetic street.
    """

    name: str
    path: Path | None = None
    train: Split
    val: Split
    test: Split | None = None
    names: list[str] = Field(min_length=2)
    palette: list[tuple[Byte, Byte, Byte]]
    ignore_index: Byte = 255
    # the size at which predictions are compared with labels; None: each label's own size
    score_height: int | None = Field(None, ge=1)
    score_width: int | None = Field(None, ge=1)


def load_data_set(name: str) -> DataSet:
    """A data set by name (`edgeprune/data/sets/`) or path; its `path` comes back absolute."""
    path = find(name, ROOT / "data" / "sets", "data set")
    data_set = parse(DataSet, read_yaml(path, "data set"), str(path))
    if data_set.path is not None:
        data_set.path = (path.resolve().parent / data_set.path).resolve()
    elif any(isinstance(split, FolderSplit) for split in (data_set.train, data_set.val, data_set.test)):
        raise InputError(f"{path}: image and label folders need `path`, the folder they are in")
    if len(data_set.palette) != len(data_set.names):
        raise InputError(
            f"{path}: palette has {len(data_set.palette)} colours for {len(data_set.names)} names; give one each"
        )
    if data_set.ignore_index < len(data_set.names):
        raise InputError(
            f"{path}: ignore_index {data_set.ignore_index} is the id of class "
            f"{data_set.names[data_set.ignore_index]!r}; use {len(data_set.names)} to 255"
        )
    if (data_set.score_height is None) != (data_set.score_width is None):
        raise InputError(f"{path}: score_height and score_width go together; give both or neither")
    return data_set
