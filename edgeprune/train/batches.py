"""Which samples make batch number s: a pure function of (seed, s), so that a resumed run sees what an undisturbed one sees.

Shapes: B batch, H W pixels of the model's input.
"""

import logging
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from edgeprune.base.errors import EdgepruneError, InputError, RunError
from edgeprune.data import Samples, open_split, spread
from edgeprune.data.clips import clips_in
from edgeprune.data.datasets import DataSet, load_data_set
from edgeprune.data.held_out import HeldOut
from edgeprune.data.instances import PER_PLANE
from edgeprune.data.preprocess import Preprocess
from edgeprune.data.samples import Split
from edgeprune.data.street import CachedStreet, StreetSamples
from edgeprune.train.recipe import Mix
from edgeprune.train.tasks.task import Targets

logger = logging.getLogger(__name__)

SHARED = "/dev/shm"
AHEAD = 4  # batches that each worker prepares
PLANES = 8  # of eight things each: so many of a frame are learnt, the largest


class Mixture(Dataset[tuple[Tensor, Targets]]):
    """Several splits side by side, fitted to the model's input; an item is (which split, which sample).

    Of each sample it gives the image (3, H, W), or with frames before it the two (2, 3, H, W), and what is learnt from it: the
    label (H, W); with things the label, their planes (PLANES, H, W) of bits, and their classes (8 PLANES), int64,
    `ignore_index` where there is none.

    Args:
        things: whether the splits were opened with things, and a task learns from them.
        before: of each split how many samples earlier the frame before is; None: it is the frame itself. None: there are none.
    """

    def __init__(
        self,
        splits: Sequence[Samples],
        preprocess: Preprocess,
        ignore_index: int,
        things: bool = False,
        before: Sequence[int | None] | None = None,
    ) -> None:
        self.splits, self.preprocess, self.ignore_index, self.things = splits, preprocess, ignore_index, things
        self.before = None
        if before is not None:
            pairs = zip(splits, before, strict=True)
            self.before = [{} if each is None else earlier_samples(split, each) for split, each in pairs]

    @property
    def sample_bytes(self) -> int:
        """Of one sample: three colours of each frame, a label, and planes and classes of things."""
        pixels = self.preprocess.height * self.preprocess.width
        colours = 3 if self.before is None else 6
        return (colours + 1) * pixels + (PLANES * (pixels + 8 * PER_PLANE) if self.things else 0)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Targets]:
        split, index = key
        sample = self.preprocess.fit_sample(self.splits[split][index], self.ignore_index)
        image_HW3, label_HW = torch.from_numpy(sample.image_HW3.copy()), torch.from_numpy(sample.label_HW.copy())
        image_3HW = image_HW3.permute(2, 0, 1).contiguous()
        if self.before is not None:
            image_3HW = torch.stack((image_3HW, self._earlier(split, index, image_3HW)))
        if not self.things:
            return image_3HW, label_HW
        assert sample.things is not None  # `open_mix`
        planes_PHW, classes_I = sample.things.padded(PLANES, self.ignore_index)
        return image_3HW, (label_HW, torch.from_numpy(planes_PHW), torch.from_numpy(classes_I))

    def _earlier(self, split: int, index: int, image_3HW: Tensor) -> Tensor:
        """The frame before a sample (3, H, W); where its clip has none, it is the sample's own image."""
        assert self.before is not None
        if (earlier := self.before[split].get(index)) is None:
            return image_3HW
        image_HW3 = self.preprocess.fit(self.splits[split][earlier].image_HW3)
        return torch.from_numpy(image_HW3.copy()).permute(2, 0, 1).contiguous()


def earlier_samples(samples: Samples, before: int) -> dict[int, int]:
    """Of each sample that has one the sample that many frames earlier in its clip, see `data.clips`."""
    clips = clips_in(samples)
    return {index: earlier for clip in clips for index, earlier in zip(clip[before:], clip, strict=False)}


def open_mix(
    mix: list[Mix], cache: Path | None, held_out: HeldOut | None = None, things: bool = False
) -> tuple[list[DataSet], list[Samples]]:
    """The data sets and splits that a phase names, without what is held out; the street's scenes are kept in `cache` once
    rendered.

    Args:
        things: whether samples have their things.

    Raises:
        InputError: the data sets don't agree on their classes; or see `open_part`.
    """
    sets = [load_data_set(part.data) for part in mix]
    for other in sets[1:]:
        if other.names != sets[0].names or other.ignore_index != sets[0].ignore_index:
            raise InputError(f"data sets {sets[0].name} and {other.name} have different classes and can't be mixed")
    splits: list[Samples] = []
    for part, data_set in zip(mix, sets, strict=True):
        split = open_part(part, data_set, held_out, things)
        splits.append(CachedStreet(split, cache) if cache and isinstance(split, StreetSamples) else split)
    return sets, splits


def open_part(part: Mix, data_set: DataSet, held_out: HeldOut | None, things: bool = False) -> Split:
    """The samples of one source of a phase: what its globs choose, without what is held out, and of these `part.images`, evenly
    spread. Scenes of the street are no neighbours of each other: of these it takes the first.

    Args:
        things: whether samples have their things.

    Raises:
        InputError: see `open_split`; or there are fewer than `part.images`.
    """
    samples = open_split(data_set, part.split, part.include, part.exclude, things=things)
    if part.before and (samples.clip == 1 if isinstance(samples, StreetSamples) else part.images is not None):
        why = "every frame is of another street" if isinstance(samples, StreetSamples) else "`images` leaves some out"
        raise InputError(
            f"before is {part.before}, and frames of {part.data} do not follow each other: {why}; take one out"
        )
    if part.before and not earlier_samples(samples, part.before):
        longest = max(map(len, clips_in(samples)))
        remedy = f"set before to {max(1, longest // 4)}"
        if longest == 1:
            remedy = "name the frames of a clip alike but for their last number, such as drive7_0031 and drive7_0032"
        raise InputError(
            f"before is {part.before}, and no frame of {part.data} has one so many earlier: its longest clip has {longest}; "
            f"{remedy}"
        )
    if held_out is not None:
        samples = held_out.leave(part, samples)
    if part.images is None:
        return samples
    if part.images > len(samples):
        raise InputError(
            f"images is {part.images}, and data set {part.data} has {len(samples)} frames to train on in its split "
            f"{part.split}; set images to {len(samples)} or fewer, or leave it out"
        )
    if isinstance(samples, StreetSamples):
        return samples.some(range(part.images))
    return samples.some(spread(len(samples), part.images))


class MixtureSampler:
    """The samples of every batch of a phase: splits drawn by their shares, each walked through in a new order every epoch.

    A batch sampler for `DataLoader`, from step `start` on.
    """

    def __init__(self, mix: list[Mix], sizes: Sequence[int], batch: int, steps: int, seed: int, start: int = 0):
        shares = np.array([part.share for part in mix], dtype=np.float64)
        self.split_n = np.random.default_rng((seed, 0)).choice(len(mix), batch * steps, p=shares / shares.sum())
        self.index_n = np.zeros(batch * steps, dtype=np.int64)
        for split, size in enumerate(sizes):
            drawn = np.flatnonzero(self.split_n == split)
            epochs = -(-len(drawn) // size)
            orders = [np.random.default_rng((seed, 1, split, epoch)).permutation(size) for epoch in range(epochs)]
            if orders:
                self.index_n[drawn] = np.concatenate(orders)[: len(drawn)]
        self.batch, self.steps, self.start = batch, steps, start

    def __getitem__(self, step: int) -> list[tuple[int, int]]:
        slots = slice(step * self.batch, (step + 1) * self.batch)
        return list(zip(self.split_n[slots].tolist(), self.index_n[slots].tolist(), strict=True))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return (self[step] for step in range(self.start, self.steps))

    def __len__(self) -> int:
        return self.steps - self.start


class OwnParts:
    """Of every batch what one process reads: in each of `accumulate` parts its place beside the others. Together they read
    the same batches, however many they are. A batch sampler for `DataLoader`.

    Attributes:
        batch: samples of one process in one part.
    """

    def __init__(self, sampler: MixtureSampler, accumulate: int, index: int = 0, processes: int = 1):
        self.sampler, self.accumulate, self.index, self.processes = sampler, accumulate, index, processes
        self.batch = sampler.batch // (accumulate * processes)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for keys in self.sampler:
            for part in range(self.accumulate):
                first = (part * self.processes + self.index) * self.batch
                yield keys[first : first + self.batch]

    def __len__(self) -> int:
        return len(self.sampler) * self.accumulate


def load_batches(
    mixture: Mixture, sampler: MixtureSampler | OwnParts, workers: int, pinned: bool = False
) -> Iterator[tuple[Tensor, Targets]]:
    """The sampler's batches: images (B, 3, H, W), uint8, and what is learnt from them, see `Mixture`.

    Workers hand them over in shared memory. Where that is too small (a container has 64 MB unless told), fewer batches are
    prepared ahead, and none where not even one fits: a batch that finds no room kills its worker.

    Args:
        pinned: whether batches lie in page-locked memory, which a GPU copies from while the host goes on.

    Raises:
        InputError, RunError: what reading a sample raises; or a worker was killed.
    """
    ahead = AHEAD
    if workers:
        free, each = free_shared_bytes(), sampler.batch * mixture.sample_bytes
        # those that each worker prepares, the one that it fills, and the one that is trained on
        fitting = [ahead for ahead in range(AHEAD, 0, -1) if free is None or ((ahead + 1) * workers + 1) * each <= free]
        if not fitting:
            logger.warning(
                f"shared memory ({SHARED}) has {(free or 0) / 1e6:.0f} MB free, {workers} workers need "
                f"{(2 * workers + 1) * each / 1e6:.0f}: frames are read in this process, more slowly; give a container more "
                f"(docker run --shm-size=1g), or set workers: 0"
            )
            workers = 0
        else:
            ahead = fitting[0]
    loader: DataLoader[tuple[Tensor, Targets]] = DataLoader(
        mixture,
        batch_sampler=sampler,
        num_workers=workers,
        prefetch_factor=ahead if workers else None,
        pin_memory=pinned,
    )
    return _as_raised(loader)


def to_device(part: Targets, device: torch.device) -> Targets:
    """A part of a batch, a tensor or several, on the device."""
    if isinstance(part, Tensor):
        return part.to(device, non_blocking=True)
    return tuple(to_device(each, device) for each in part)


def free_shared_bytes() -> int | None:
    """Of the memory that workers hand batches over in; None where that is no folder with a size (not Linux)."""
    if sys.platform != "linux":
        return None
    try:
        return shutil.disk_usage(SHARED).free
    except OSError:
        return 0


def _as_raised(batches: Iterable[tuple[Tensor, Targets]]) -> Iterator[tuple[Tensor, Targets]]:
    """With the one line that a worker raised in place of its traceback, and a word on why a worker was killed."""
    try:
        yield from batches
    except EdgepruneError as error:
        last = str(error).strip().splitlines()[-1]
        raise type(error)(last.partition(f"{type(error).__name__}: ")[2] or last) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise RunError(
            f"a process that reads frames was killed ({reason}): memory ran out, or shared memory ({SHARED}); set workers: 0, "
            "or give a container more (docker run --shm-size=1g). The phase goes on where it stopped"
        ) from None
