"""Frames that are all but equal across splits: neighbours in one video, which make a val score flatter than it is.

A frame is told by a difference hash: whether each of 16 x 16 cells is brighter than the one to its left, 32 bytes in all. On a
drive at 15 Hz and a walk indoors, neighbours differ in 15 to 36 bits of 256; photos of unlike scenes differ in 48 and more,
most in 80 to 130.
Source: N. Krawetz, "Kind of Like That" (2013).
"""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeprune.data.samples import UInt8

CELLS = 16  # along each axis
BITS = CELLS * CELLS
NEAR_BITS = 32  # frames that differ in no more are all but equal
CHUNK = 2048  # frames that are compared with as many others at once


@dataclass
class FrameHashes:
    """The hashes of some frames, in the order in which they were seen."""

    names: list[str] = field(default_factory=list)
    packed: bytearray = field(default_factory=bytearray)

    def add(self, name: str, image_HW3: UInt8) -> None:
        grey = Image.fromarray(image_HW3).convert("L").resize((CELLS + 1, CELLS), Image.Resampling.BOX)
        levels_hw = np.asarray(grey)
        self.names.append(name)
        self.packed += np.packbits(levels_hw[:, 1:] > levels_hw[:, :-1]).tobytes()

    def signs(self, begin: int, end: int) -> npt.NDArray[np.float32]:
        """Bits of some frames as -1 and 1, (frames, BITS): of two rows the product is BITS less twice the bits that differ."""
        packed_NB = np.frombuffer(self.packed, np.uint8).reshape(-1, BITS // 8)[begin:end]
        return np.unpackbits(packed_NB, axis=1).astype(np.float32) * 2 - 1


@dataclass(frozen=True)
class Leak:
    """How many frames of a split are all but equal to one of another, and the nearest pair."""

    frames: int
    of: int
    example: tuple[str, str]
    bits: int

    @property
    def share(self) -> float:
        return self.frames / self.of


def find_leak(frames: FrameHashes, others: FrameHashes) -> Leak | None:
    """Those of `frames` that have a near neighbour among `others`; None where none has."""
    count, nearest = 0, (BITS, 0, 0)
    for begin in range(0, len(frames.names), CHUNK):
        mine_NB = frames.signs(begin, begin + CHUNK)
        least_N = np.full(len(mine_NB), BITS)
        for start in range(0, len(others.names), CHUNK):
            bits_NM = (BITS - mine_NB @ others.signs(start, start + CHUNK).T) / 2
            least_N = np.minimum(least_N, bits_NM.min(axis=1))
            place = int(bits_NM.argmin())
            mine, theirs = divmod(place, bits_NM.shape[1])
            nearest = min(nearest, (int(bits_NM[mine, theirs]), begin + mine, start + theirs))
        count += int((least_N <= NEAR_BITS).sum())
    if not count:
        return None
    bits, mine, theirs = nearest
    return Leak(count, len(frames.names), (frames.names[mine], others.names[theirs]), bits)
