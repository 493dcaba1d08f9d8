"""Images in folders with the label of each, however it is written: a mask, or polygons in a file."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from edgeprune.base.errors import InputError
from edgeprune.data.image import read_image
from edgeprune.data.labels import LabelReader, is_coloured
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

    @property
    def coloured(self) -> bool:
        return self._labels.coloured


class FolderSamples:
    """Images of a folder, with their labels.

    Args:
        folder: where the images are.
        names, images: of each sample its stem, and its file below the folder.
    """

    def __init__(self, folder: Path, names: list[str], images: list[str], labels: Labels) -> None:
        self._folder, self._names, self._images, self._labels = folder, names, images, labels

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
        return FolderSamples(self._folder, names, images, SomeLabels(self._labels, indices))

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        image_HW3 = read_image(self.files(index)[0])
        label_HW = self._labels.read(index, _shape(image_HW3))
        assert label_HW is not None
        self._check_size(index, image_HW3, label_HW)
        return Sample(self._names[index], image_HW3, label_HW)

    def look_at(self, index: int) -> tuple[UInt8 | None, UInt8 | None, list[InputError]]:
        """Image and label of sample `index` where they can be read, and all that is wrong with its two files: `[index]` ends at
        the first fault, and a lint wants the others too."""
        faults: list[InputError] = []
        image_HW3 = label_HW = None
        try:
            image_HW3 = read_image(self.files(index)[0])
        except InputError as error:
            faults.append(error)
        try:
            label_HW = self._labels.read(index, None if image_HW3 is None else _shape(image_HW3))
            if image_HW3 is not None and label_HW is not None:
                self._check_size(index, image_HW3, label_HW)
        except InputError as error:
            faults.append(error)
        return image_HW3, label_HW, faults

    def _check_size(self, index: int, image_HW3: UInt8, label_HW: UInt8) -> None:
        if image_HW3.shape[:2] == label_HW.shape:
            return
        image_path, label_path = self.files(index)
        turned = image_HW3.shape[1::-1] == label_HW.shape
        raise WrongSize(
            f"{image_path} is {_size(image_HW3)} but its label {label_path} is {_size(label_HW)}; a label needs the size "
            f"of its image{', upright as its EXIF orientation turns it' if turned else ''}"
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return str(self._labels.file(index))

    def files(self, index: int) -> tuple[Path, Path]:
        """The image and the label of sample `index`."""
        return self._folder / self._images[index], self._labels.file(index)


def _shape(image_HW3: UInt8) -> tuple[int, int]:
    return image_HW3.shape[0], image_HW3.shape[1]


def _size(pixels: UInt8) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
