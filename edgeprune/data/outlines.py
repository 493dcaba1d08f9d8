"""What a file says of one frame, as outlines: the label map and the things that are drawn of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from edgeprune.base.errors import InputError
from edgeprune.data.instances import PER_PLANE, Instances
from edgeprune.data.patches import Patch, union
from edgeprune.data.polygons import Floats, Runs, patch_of, patch_of_runs
from edgeprune.data.samples import UInt8


@dataclass(frozen=True, eq=False)
class Outline:
    """A thing, or an area of no things, by its polygons or its run lengths.

    Attributes:
        name: how a message calls it within its frame, such as `annotation 5` or `line 3`.
        class_id: the place of its class in `names`, or what is ignored.
        thing: whether its class is one of things, which are counted.
        parts: its polygons (N, 2), x and y in pixels; they may overlap, and a pixel that is in one of them is covered.
        runs: its run lengths, where it has those in place of polygons; see `polygons.from_runs`.
        crowd: it is many things that nobody told apart.
        identity: what the thing is called, see `Instances.ids_I`; None where the file says what is no whole number.
        area: in pixels as the file says it, which may be wrong; None where it does not.
        box_4: left, top, width, height in pixels as the file says them; None where it does not.
    """

    name: str
    class_id: int
    thing: bool
    parts: Sequence[Floats] = ()
    runs: Runs | None = None
    crowd: bool = False
    identity: int | None = None
    area: float | None = None
    box_4: Sequence[float] | None = None

    def patch(self, height: int, width: int) -> Patch | None:
        """The pixels that it covers of an image of this size; None where there are none.

        Raises:
            ValueError, OverflowError: it has points so far outside that nothing can be computed of them.
        """
        if self.runs is not None:
            return patch_of_runs(self.runs, height, width)
        with np.errstate(over="ignore", invalid="ignore"):  # of points at 1e308, which raise
            patches = [patch for part in self.parts if (patch := patch_of(part, height, width)) is not None]
        return union(patches) if patches else None


@dataclass(frozen=True, eq=False)
class Outlines:
    """The outlines of one frame, in the order in which they are drawn: what comes later lies before what came earlier.

    Attributes:
        where: how a message calls the frame.
        size: height and width in pixels.
        ground: the class of what no outline covers.
    """

    where: str
    size: tuple[int, int]
    ground: int
    each: Sequence[Outline]

    def patches(self) -> Iterator[tuple[Outline, Patch | None]]:
        """Each outline with the pixels that it covers.

        Raises:
            InputError: see `Outline.patch`.
        """
        for outline in self.each:
            try:
                patch = outline.patch(*self.size)
            except (ValueError, OverflowError):
                raise InputError(
                    f"{self.where}, {outline.name}: its points lie too far outside the image to be drawn; outline it again"
                ) from None
            yield outline, patch

    def label(self) -> UInt8:
        """The class of each pixel (H, W).

        Raises:
            InputError: see `patches`.
        """
        label_HW = np.full(self.size, self.ground, np.uint8)
        for outline, patch in self.patches():
            if patch is not None:
                patch.within(label_HW)[patch.inside_hw] = outline.class_id
        return label_HW

    def label_and_things(self) -> tuple[UInt8, Instances]:
        """The class of each pixel, and the things in the order in which they are drawn, each with all its own pixels: one that
        lies before it takes none away. What covers no pixel is no thing.

        Raises:
            InputError: see `patches`; or a thing is called by what is no whole number.
        """
        label_HW = np.full(self.size, self.ground, np.uint8)
        planes: list[UInt8] = []
        things: list[Outline] = []
        for outline, patch in self.patches():
            if patch is None:
                continue
            patch.within(label_HW)[patch.inside_hw] = outline.class_id
            if not outline.thing:
                continue
            if len(things) % PER_PLANE == 0:
                planes.append(np.zeros(self.size, np.uint8))
            patch.within(planes[-1])[patch.inside_hw] |= np.uint8(1 << len(things) % PER_PLANE)
            things.append(outline)
        return label_HW, Instances(
            np.array([each.class_id for each in things], np.uint8),
            np.stack(planes) if planes else np.zeros((0, *self.size), np.uint8),
            np.array([each.crowd for each in things], np.bool_),
            np.array([self._identity(each) for each in things], np.int64),
        )

    def _identity(self, outline: Outline) -> int:
        if outline.identity is None:
            raise InputError(
                f"{self.where}, {outline.name}: what it is called (`track_id`, else `id`) is no whole number; number the things"
            )
        return outline.identity
