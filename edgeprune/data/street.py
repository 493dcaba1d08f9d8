"""The synthetic street as a data set, and its cache: rendering a scene costs about as much as training on it.

The cache is one sparse file of records, one per scene: image, label, CRC-32 of both. A scene counts as cached when the
CRC fits, so a run that is killed mid-write, or two that write the same scene, leave nothing wrong behind. A new version
of the renderer, another seed or size gets another file; old files can be deleted at any time.
"""

import errno
import hashlib
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeprune import street as synthetic
from edgeprune.base.errors import RunError
from edgeprune.base.files import make_folder
from edgeprune.data.samples import Sample, UInt8

CRC_BYTES = 4
APART = (1, 2, 4, 8, 16, 32)  # frames of a street from one of a clip to the next
MOMENTS = 3000  # a clip begins at one of so many frames


class StreetSamples:
    """Scenes `seed` to `seed + frames - 1` of the synthetic street, rendered on access at `height` x `width` pixels; or clips
    of cameras that stand, the first of them of the street `seed`.

    Args:
        population: see `street.population`.
        clip: so many frames after each other are of one street, which a standing camera sees, evenly apart: one, two, four or
            more frames of the street, as its seed says. 1: every frame is another street.
    """

    def __init__(
        self, seed: int, frames: int, height: int, width: int, population: str = "street", clip: int = 1
    ) -> None:
        self.seed, self.frames, self.height, self.width = seed, frames, height, width
        self.population, self.clip = population, clip

    @property
    def names(self) -> list[str]:
        return [self.name(index) for index in range(self.frames)]

    def name(self, index: int) -> str:
        """Of one sample."""
        scene, place = divmod(index, self.clip)
        return f"street-{self.seed + scene}" + (f"-{place}" if self.clip > 1 else "")

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < self.frames:
            raise IndexError(f"scene {index} of {self.frames}")
        if self.clip == 1:
            image_HW3, label_HW = synthetic.scene(self.seed + index, self.height, self.width, self.population)
        else:
            image_HW3, label_HW = self._of_clip(*divmod(index, self.clip))
        return Sample(self.name(index), image_HW3, label_HW)

    def _of_clip(self, scene: int, place: int) -> tuple[UInt8, UInt8]:
        from edgeprune.data.drive import Drive  # the renderer makes tables, which other data sets do without

        street = Drive(self.seed + scene, self.height, self.width, speed=0, population=self.population)
        apart = APART[(self.seed + scene) % len(APART)]
        return street.frame(street.moment % MOMENTS + place * apart)

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return f"the synthetic street's scene {self.seed + index // self.clip}"

    def some(self, indices: Sequence[int]) -> "StreetSamples":
        """Some of the scenes, by indices without gaps, and of clips from the start of one: their seeds follow each other."""
        assert list(indices) == list(range(indices[0], indices[0] + len(indices))) and indices[0] % self.clip == 0
        seed = self.seed + indices[0] // self.clip
        return StreetSamples(seed, len(indices), self.height, self.width, self.population, self.clip)


class CachedStreet:
    """`samples`, kept in `folder` once rendered (4 bytes a pixel: 0.75 MiB a scene of 384x512).

    Any number of processes may share a folder; objects can be pickled and forked.

    Raises:
        InputError: the folder can't be written to.
    """

    def __init__(self, samples: StreetSamples, folder: Path) -> None:
        self.samples = samples
        self.path = make_folder(folder, "the cache of street scenes") / (
            f"{samples.population}-{samples.height}x{samples.width}-seed{samples.seed}"
            f"{f'-clip{samples.clip}' if samples.clip > 1 else ''}-{renderer_version(samples.clip > 1)}.scenes"
        )
        self._label_bytes = samples.height * samples.width
        self._record_bytes = 4 * self._label_bytes + CRC_BYTES

    @property
    def names(self) -> list[str]:
        return self.samples.names

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        if not 0 <= index < len(self):
            raise IndexError(f"scene {index} of {len(self)}")
        cached = self._read(index)
        if cached is not None:
            return Sample(self.samples.name(index), *cached)
        sample = self.samples[index]
        self._write(index, sample)
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))

    def origin(self, index: int) -> str:
        return self.samples.origin(index)

    def _read(self, index: int) -> tuple[UInt8, UInt8] | None:
        """Image and label of a cached scene; None when it is not (wholly) there."""
        record = bytearray(self._record_bytes)
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(index * self._record_bytes)
                if file.readinto(record) != self._record_bytes:
                    return None
        except FileNotFoundError:
            return None
        pixels = np.frombuffer(record, np.uint8, 4 * self._label_bytes)
        if zlib.crc32(memoryview(record)[:-CRC_BYTES]) != int.from_bytes(record[-CRC_BYTES:], "little"):
            return None
        size = (self.samples.height, self.samples.width)
        image_HW3 = pixels[: 3 * self._label_bytes].reshape(*size, 3)
        return image_HW3, pixels[3 * self._label_bytes :].reshape(size)

    def _write(self, index: int, sample: Sample) -> None:
        pixels = np.concatenate([sample.image_HW3.ravel(), sample.label_HW.ravel()]).tobytes()
        record = memoryview(pixels + zlib.crc32(pixels).to_bytes(CRC_BYTES, "little"))
        # pwrite, not a memory map: a full disk is then an error that can be reported instead of a fatal signal
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            done = 0
            while done < len(record):
                done += os.pwrite(descriptor, record[done:], index * self._record_bytes + done)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise RunError(
                    f"no space left to cache street scenes in {self.path}; free some and run again"
                ) from error
            raise
        finally:
            os.close(descriptor)


def renderer_version(clips: bool = False) -> str:
    """First 12 hex digits of the SHA-256 over the renderer's source files: other code, other scenes. With `clips` over
    what says where cameras stand, and when, too."""
    digest = hashlib.sha256()
    here = Path(__file__)
    beside = [here, here.with_name("drive.py")] if clips else []
    for path in [*sorted(Path(synthetic.__file__).parent.rglob("*.py")), *beside]:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
