"""Images and label maps in folders, paired by stem."""

import logging
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from edgeprune.base.errors import InputError
from edgeprune.data.datasets import STEM
from edgeprune.data.image import IMAGE_SUFFIXES, read_image
from edgeprune.data.labels import LABEL_SUFFIXES, LabelReader
from edgeprune.data.layout import by_common_ending, find_by_stem
from edgeprune.data.samples import Sample, UInt8, WrongSize

log = logging.getLogger("edgeprune")


class MissingLabels(InputError):
    """Some images have no label. `rest`: the samples of those that have one, for the lint, which looks at them too."""

    def __init__(self, message: str, rest: "FolderSamples"):
        super().__init__(message)
        self.rest = rest


class FolderSamples:
    """The images of a folder that pass every include and no exclude glob, in the order of their stems.

    Where images and labels share a folder, images are what no label can be (`x.jpg` beside `x.png`).

    Args:
        images, labels: a folder, or a pattern with `{stem}`; see `layout.find_by_stem`.
        reader: of the label maps.
        include: groups of globs over the stem, or its last part; a stem must match one of each group.
        exclude: globs likewise; a stem that matches one is left out.

    Raises:
        InputError: a folder is missing, or holds nothing that fits.
        MissingLabels: an image has no label.
    """

    def __init__(
        self,
        images: Path,
        labels: Path,
        reader: LabelReader,
        include: Sequence[Sequence[str]] = (),
        exclude: Sequence[str] = (),
    ) -> None:
        self._reader = reader
        of_images = IMAGE_SUFFIXES
        if images.resolve() == labels.resolve():
            of_images = tuple(suffix for suffix in IMAGE_SUFFIXES if suffix not in LABEL_SUFFIXES)
            log.warning(f"{images} holds images ({', '.join(of_images)}) and labels ({', '.join(LABEL_SUFFIXES)})")
        image_files = find_by_stem(images, of_images, "images", labels)
        label_files = find_by_stem(labels, LABEL_SUFFIXES, "labels", images)
        stems = [
            stem
            for stem in sorted(image_files)
            if all(_matches(stem, globs) for globs in include) and not _matches(stem, exclude)
        ]
        if not stems:
            globs = " and ".join(f"[{', '.join(group)}]" for group in include)
            raise InputError(
                f"none of the {len(image_files)} images in {images} is left by include {globs} and "
                f"exclude [{', '.join(exclude)}]; the stems look like {min(image_files)!r}"
            )
        missing = [stem for stem in stems if stem not in label_files]
        if len(missing) == len(stems):  # some are named alike: then an ending is not what the others lack
            paired = by_common_ending(label_files, stems)
            label_files, missing = (paired, []) if paired else (label_files, missing)
        self._names = [stem for stem in stems if stem in label_files]
        self._files = [(image_files[stem], label_files[stem]) for stem in self._names]
        if missing:
            expected = str(labels).replace(STEM, missing[0]) if STEM in str(labels) else f"{labels / missing[0]}.png"
            remedy = "add it, or leave the image out with `exclude`"
            if len(missing) == len(stems):
                remedy = (
                    f"labels have names such as {min(label_files.values())}; say how they go together with their images', such "
                    f"as `images: DIR/{STEM}_image.jpg` and `labels: DIR/{STEM}_mask.png`"
                )
            raise MissingLabels(
                f"{len(missing)} of {len(stems)} images in {images} have no label: expected {expected}; {remedy}", self
            )

    @property
    def names(self) -> list[str]:
        return self._names

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        image_path, label_path = self._files[index]
        image_HW3 = read_image(image_path)
        label_HW = self._reader.read(label_path)
        self._check_size(index, image_HW3, label_HW)
        return Sample(self._names[index], image_HW3, label_HW)

    def look_at(self, index: int) -> tuple[UInt8 | None, list[InputError]]:
        """The label of sample `index` where it can be read, and all that is wrong with its two files: `[index]` ends at the
        first fault, and a lint wants the others too."""
        image_path, label_path = self._files[index]
        faults: list[InputError] = []
        image_HW3 = label_HW = None
        try:
            image_HW3 = read_image(image_path)
        except InputError as error:
            faults.append(error)
        try:
            label_HW = self._reader.read(label_path)
            if image_HW3 is not None:
                self._check_size(index, image_HW3, label_HW)
        except InputError as error:
            faults.append(error)
        return label_HW, faults

    def _check_size(self, index: int, image_HW3: UInt8, label_HW: UInt8) -> None:
        if image_HW3.shape[:2] == label_HW.shape:
            return
        image_path, label_path = self._files[index]
        turned = image_HW3.shape[1::-1] == label_HW.shape
        raise WrongSize(
            f"{image_path} is {_size(image_HW3)} but its label {label_path} is {_size(label_HW)}; a label needs the size "
            f"of its image{', upright as its EXIF orientation turns it' if turned else ''}"
        )

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return str(self._files[index][1])

    def files(self, index: int) -> tuple[Path, Path]:
        """The image and the label of sample `index`."""
        return self._files[index]


def _matches(stem: str, globs: Sequence[str]) -> bool:
    return any(fnmatchcase(stem, glob) or fnmatchcase(PurePosixPath(stem).name, glob) for glob in globs)


def _size(pixels: UInt8) -> str:
    return f"{pixels.shape[1]}x{pixels.shape[0]}"
