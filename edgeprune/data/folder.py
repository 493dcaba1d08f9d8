"""Images in folders with the label of each, however it is written: a mask, or polygons in a file."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from edgeprune.base.errors import InputError
from edgeprune.data.image import read_image
from edgeprune.data.instances import Instances
from edgeprune.data.labels import LabelReader, is_coloured
from edgeprune.data.outlines import Outlines
from edgeprune.data.samples import Sample, UInt8, WrongSize


class Labels(Protocol):
    """The labels of a split's images, in their order."""

    def file(self, index: int) -> Path:
        """Where label `index` is written."""

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8 | None:
        """Class ids (H, W).

        Args:
            size: height and width of the image; None where it can't be read.

        Returns:
            None where the label has no size without its image.

        Raises:
            InputError: it can't be read, or has an id or a colour that the data set doesn't speak of.
        """

    def outlines(self, index: int, size: tuple[int, int] | None) -> Outlines | None:
        """What label `index` is drawn from; None where it is a map, or has no size without its image. As `read`."""

    def remarks(self) -> list[str]:
        """What a lint has to say of a file of them all, a line each."""

    @property
    def coloured(self) -> bool:
        """Whether masks hold colours in place of ids."""


class MissingLabels(InputError):
    """Some images have no label. `rest`: the samples of those that have one, for the lint, which looks at them too."""

    def __init__(self, message: str, rest: "FolderSamples"):
        super().__init__(message)
        self.rest = rest


class Masks:
    """Labels that are images; `paths` lie below `folder`."""

    def __init__(self, folder: Path, paths: Sequence[str], reader: LabelReader) -> None:
        self._folder, self._paths, self._reader = folder, paths, reader

    def file(self, index: int) -> Path:
        return self._folder / self._paths[index]

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8:
        return self._reader.read(self.file(index))

    def outlines(self, index: int, size: tuple[int, int] | None) -> None:
        return None

    def remarks(self) -> list[str]:
        return []

    @property
    def coloured(self) -> bool:
        """Raises InputError: see `LabelReader.read`."""
        return is_coloured(self.file(0))


class SomeLabels:
    """Those of `labels` that have these indices."""

    def __init__(self, labels: Labels, indices: Sequence[int]) -> None:
        self._labels, self._indices = labels, indices

    def file(self, index: int) -> Path:
        return self._labels.file(self._indices[index])

    def read(self, index: int, size: tuple[int, int] | None) -> UInt8 | None:
        return self._labels.read(self._indices[index], size)

    def outlines(self, index: int, size: tuple[int, int] | None) -> Outlines | None:
        return self._labels.outlines(self._indices[index], size)

    def remarks(self) -> list[str]:
        return self._labels.remarks()

    @property
    def coloured(self) -> bool:
        return self._labels.coloured


@dataclass
class Look:
    """What a lint sees of a sample.

    Attributes:
        image_HW3, label_HW: where they can be read.
        outlines: what the label was drawn from; None where it is a map.
        things: where samples have theirs.
        faults: all that is wrong with the two files.
    """

    image_HW3: UInt8 | None = None
    label_HW: UInt8 | None = None
    outlines: Outlines | None = None
    things: Instances | None = None
    faults: list[InputError] = field(default_factory=list)


class FolderSamples:
    """Images of a folder, with their labels.

    Args:
        folder: where the images are.
        names, images: of each sample its stem, and its file below the folder.
        things: whether samples have things too; labels then have outlines.
    """

    def __init__(self, folder: Path, names: list[str], images: list[str], labels: Labels, things: bool = False) -> None:
        self._folder, self._names, self._images, self._labels = folder, names, images, labels
        self._things = things

    @property
    def names(self) -> list[str]:
        return self._names

    @property
    def coloured(self) -> bool:
        """Whether labels hold the colours of the palette in place of ids."""
        return self._labels.coloured

    def some(self, indices: Sequence[int]) -> "FolderSamples":
        """Some of the samples, in that order."""
        names, images = ([each[index] for index in indices] for each in (self._names, self._images))
        return FolderSamples(self._folder, names, images, SomeLabels(self._labels, indices), self._things)

    def with_things(self) -> "FolderSamples":
        """The same samples with their things. Labels are to have outlines."""
        return FolderSamples(self._folder, self._names, self._images, self._labels, things=True)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        image_HW3 = read_image(self.files(index)[0])
        if self._things:
            outlines = self._labels.outlines(index, _shape(image_HW3))
            assert outlines is not None
            self._check_size(index, _shape(image_HW3), outlines.size)
            return Sample(self._names[index], image_HW3, *outlines.label_and_things())
        label_HW = self._labels.read(index, _shape(image_HW3))
        assert label_HW is not None
        self._check_size(index, _shape(image_HW3), _shape(label_HW))
        return Sample(self._names[index], image_HW3, label_HW)

    def look_at(self, index: int) -> Look:
        """Sample `index` as far as it can be read: `[index]` ends at the first fault, and a lint wants the others too."""
        look = Look()
        try:
            look.image_HW3 = read_image(self.files(index)[0])
        except InputError as error:
            look.faults.append(error)
        size = None if look.image_HW3 is None else _shape(look.image_HW3)
        try:
            look.outlines = self._labels.outlines(index, size)
            if look.outlines is None:
                look.label_HW = self._labels.read(index, size)
            elif self._things:
                look.label_HW, look.things = look.outlines.label_and_things()
            else:
                look.label_HW = look.outlines.label()
            if size is not None and look.label_HW is not None:
                self._check_size(index, size, _shape(look.label_HW))
        except InputError as error:
            look.faults.append(error)
        return look

    def remarks(self) -> list[str]:
        """What a lint has to say of a file of all labels, a line each."""
        return self._labels.remarks()

    def _check_size(self, index: int, of_image: tuple[int, int], of_label: tuple[int, int]) -> None:
        """Raises WrongSize where the two, height and width, differ."""
        if of_image == of_label:
            return
        image_path, label_path = self.files(index)
        turned = of_image[::-1] == of_label
        raise WrongSize(
            f"{image_path} is {_size(of_image)} but its label {label_path} is {_size(of_label)}; a label needs the size "
            f"of its image{', upright as its EXIF orientation turns it' if turned else ''}"
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return str(self._labels.file(index))

    def files(self, index: int) -> tuple[Path, Path]:
        """The image and the label of sample `index`."""
        return self._folder / self._images[index], self._labels.file(index)


def _shape(pixels: UInt8) -> tuple[int, int]:
    return pixels.shape[0], pixels.shape[1]


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"
