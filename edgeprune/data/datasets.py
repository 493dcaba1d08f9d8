"""A data set: images, labels, and what the label ids mean. What people write is described in `docs/data.md`."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, PrivateAttr, Tag, field_validator, model_validator

from edgeprune.base.errors import InputError, nearest
from edgeprune.base.paths import real_path
from edgeprune.base.reading import ROOT, Strict, find, parse, read_yaml

STEM = "{stem}"
Share = Annotated[float, Field(ge=0, le=1)]
IGNORE = "ignore"  # in `ids`, in place of a class


class FolderSplit(Strict):
    """Images and their labels, relative to the data set's `path`.

    Each is a folder, searched with all below it, or a pattern in which `{stem}` stands for what is common to an image and its
    label: `leftImg8bit/train/{stem}_leftImg8bit.png` and `gtFine/train/{stem}_gtFine_labelIds.png`.
    `include` and `exclude` are globs over the stem (`"0016E5*"`), for leaving a drive out.
    """

    images: Path
    labels: Path = Field(description="a folder or a pattern; with `format: coco` the JSON file of the annotations")
    format: Literal["masks", "coco", "yolo"] = Field(
        "masks", description="what labels are: images, or polygons in files"
    )
    file_list: Path | None = Field(None, description="a text file with a stem, or an image and its label, on each line")
    part: tuple[Share, Share] = Field(
        (0.0, 1.0), description="from where to where of the images in the order of their names"
    )
    include: list[str] = ["*"]
    exclude: list[str] = []

    @field_validator("part")
    @classmethod
    def _ascending(cls, part: tuple[float, float]) -> tuple[float, float]:
        if part[0] >= part[1]:
            raise ValueError("expected where it begins and where it ends, such as [0.8, 1]")
        return part


class StreetSplit(Strict):
    """`frames` scenes of the synthetic street, seeds counted from `seed`."""

    seed: int = Field(ge=0, lt=2**62)
    frames: int = Field(ge=1, le=10**6)
    height: int = Field(384, ge=32, le=4096)
    width: int = Field(512, ge=32, le=4096)
    population: Literal["street", "camvid"] = Field(
        "street", description="a row of `street.population.POPULATIONS`: how many things there are, and how near"
    )
    clip: int = Field(
        1,
        ge=1,
        le=1000,
        description="so many frames after each other are of one street, seen by a camera that stands; 1: each of another",
    )


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
Colour = tuple[Byte, Byte, Byte]
SETS = ROOT / "data" / "sets"
MOST_CLASSES = 255  # labels are bytes, and one of 256 is what is ignored
# as a checkpoint and a manifest take it; an empty one has a message of its own
ClassName = Annotated[str, Field(max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")]


class DataSet(Strict):
    """A data set: where its images and labels are, what the label ids mean.

    `path` is relative to the YAML file. A data set without `path` is the synthetic street.
    A label map holds class ids in the order of `names`, or other ids that `ids` names, or the colours of `palette`.
    """

    name: str
    path: Path | None = None
    train: Split
    val: Split
    test: Split | None = None
    names: list[ClassName]
    things: list[str] = Field([], description="the classes that can be counted: small ones are scored apart")
    palette: list[Colour] = Field([], description="a colour for each name; PASCAL VOC's where there are none")
    ids: dict[Annotated[int, Field(ge=0, le=65535)], str] = Field(
        {},
        description="the class of each id in the files, or `ignore`, where they are not 0, 1, 2 ... in the order of `names`",
    )
    ignore_index: Byte = 255
    ignore_colours: list[Colour] = Field([], description="of masks in colours: what is of no class")
    # the size at which predictions are compared with labels; None: each label's own size
    score_height: int | None = Field(None, ge=1, le=8192)
    score_width: int | None = Field(None, ge=1, le=8192)
    _coloured: bool = PrivateAttr(False)

    @model_validator(mode="before")
    @classmethod
    def _spell_out(cls, content: Any) -> Any:
        """`names: cityscapes` and `ids: cityscapes` stand for what the file of that name says."""
        if not isinstance(content, dict) or not any(isinstance(content.get(key), str) for key in ("names", "ids")):
            return content
        from edgeprune.data.known import spell_out

        return spell_out(content, IGNORE)

    def model_post_init(self, context: Any) -> None:
        self._coloured = bool(self.palette)
        self.palette = self.palette or voc_colours(len(self.names))

    @property
    def coloured(self) -> bool:
        """Whether the palette is the data set's own, so that masks may be in its colours."""
        return self._coloured


def voc_colours(count: int) -> list[Colour]:
    """The first colours of PASCAL VOC's colour map: bits 0, 1, 2 of an id are the high bits of red, green, blue, and so on.

    Source: `VOClabelcolormap` of the VOC 2012 development kit.
    """
    colours: list[Colour] = []
    for index in range(count):
        red, green, blue = (
            sum((index >> (3 * level + channel) & 1) << (7 - level) for level in range(8)) for channel in range(3)
        )
        colours.append((red, green, blue))
    return colours


def load_data_set(name: str) -> DataSet:
    """A data set by name (`edgeprune/data/sets/`), by its YAML file, or by its folder where the layout says the rest; its
    `path` comes back absolute.

    Raises:
        InputError: no such set, a YAML with a fault, or a folder that is of no layout, or of two.
    """
    ships = os.sep not in name and os.path.isfile(SETS / f"{name}.yaml")
    if os.path.isdir(name) and not ships:
        from edgeprune.data.layouts import describe, find_own  # what a device runs knows no folders of others

        own = find_own(Path(name))
        return load_data_set(str(own)) if own else describe(Path(name)).data_set()
    if os.sep in name and Path(name).suffix not in (".yaml", ".yml") and not os.path.lexists(name):
        raise InputError(f"data set {name}: neither a folder nor a YAML file is there; check the path")
    path = find(name, SETS, "data set", "a folder or a YAML file")
    content = read_yaml(path, "data set")
    if isinstance(content, dict) and isinstance(content.get("path"), str):
        content["path"] = str(real_path(real_path(path).parent / content["path"]))
    if isinstance(content, dict) and "layout" in content:
        from edgeprune.data.layouts import complete

        content = complete(content, path)
    return parse_data_set(content, path)


def parse_data_set(content: Any, path: Path) -> DataSet:
    """A data set's YAML, or what its folder was found to be, checked as a whole. `path`: for messages."""
    data_set = parse(DataSet, content, str(path))
    if data_set.path is None and any(
        isinstance(split, FolderSplit) for split in (data_set.train, data_set.val, data_set.test)
    ):
        raise InputError(f"{path}: image and label folders need `path`, the folder they are in")
    _check_names(data_set, path)
    _check_ids(data_set, path)
    if len(data_set.palette) != len(data_set.names):
        raise InputError(
            f"{path}: palette has {len(data_set.palette)} colours for {len(data_set.names)} names; give one each, or leave "
            "`palette` out"
        )
    if data_set.ignore_index < len(data_set.names):
        free = f"{len(data_set.names)} to 255" if len(data_set.names) < 255 else "255"
        raise InputError(
            f"{path}: ignore_index {data_set.ignore_index} is the id of class "
            f"{data_set.names[data_set.ignore_index]!r}; use {free}"
        )
    if (data_set.score_height is None) != (data_set.score_width is None):
        raise InputError(f"{path}: score_height and score_width go together; give both or neither")
    return data_set


def _check_names(data_set: DataSet, path: Path) -> None:
    names = [name.strip() for name in data_set.names]
    if len(names) < 2:
        found = f"has one class, {names[0]!r}" if names else "is empty"
        raise InputError(
            f"{path}: names {found}; a model needs two or more, such as names: [background, {(*names, 'box')[0]}]"
        )
    if len(names) > MOST_CLASSES:
        raise InputError(
            f"{path}: names has {len(names)} classes; at most {MOST_CLASSES} fit, for labels are bytes and one of 256 is "
            "ignored: put rare ones together by `ids`"
        )
    if "" in names:
        raise InputError(f"{path}: class {names.index('')} in names has no name; give it one")
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            raise InputError(
                f"{path}: classes {first[name]} and {index} in names are both {name!r}; rename one of the two"
            )
    for name in data_set.things:
        if name not in data_set.names:
            raise InputError(f"{path}: things: {name!r} is none of names{nearest(name, data_set.names)}")


def _check_ids(data_set: DataSet, path: Path) -> None:
    """`ids` speaks of classes that there are."""
    if data_set.ids and IGNORE in data_set.names:
        raise InputError(f"{path}: a class is called {IGNORE!r}, which means no class in `ids`; rename the class")
    for index, name in data_set.ids.items():
        if name not in (IGNORE, *data_set.names):
            known = [*data_set.names, IGNORE]
            raise InputError(f"{path}: ids.{index}: {name!r} is none of names, nor {IGNORE!r}{nearest(name, known)}")
