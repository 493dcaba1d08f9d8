"""What a data set gives: an image, the class of each of its pixels and, where they are asked for, its things."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from edgeprune.base.errors import InputError
from edgeprune.data.instances import Instances

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Sample:
    """One labelled frame: RGB image and class ids, of equal height and width, and things of that size; None where nobody asked
    for them (`open_split`)."""

    name: str
    image_HW3: UInt8
    label_HW: UInt8
    things: Instances | None = None


class WrongSize(InputError):
    """An image and its label differ in size."""


class WrongIds(InputError):
    """A label has an id or a colour that the data set's YAML does not speak of."""


class Samples(Protocol):
    """A split of a data set: any order of access, each sample read or rendered when it is asked for."""

    @property
    def names(self) -> list[str]:
        """The name of each sample: the file stem, or `street-<seed>`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Sample `index`, 0 <= index < len.

        Raises:
            IndexError: no such sample.
            InputError: its files can't be read or don't fit together; the message names them.
        """

    def __iter__(self) -> Iterator[Sample]: ...

    def origin(self, index: int) -> str:
        """Where the label of sample `index` comes from, for messages: its file, or the seed of its scene."""


class Split(Samples, Protocol):
    """A split as it is opened: it can give some of itself."""

    def some(self, indices: Sequence[int]) -> "Split":
        """Some of the samples, by rising indices; of scenes that are rendered without gaps."""
