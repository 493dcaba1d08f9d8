"""What a phase shows of the frame before, so that a network learns to carry tokens (`model/carried.py`): in a share of its
steps every frame comes after another one, and its tokens that changed are computed.

The frame before is an earlier one of a clip where the data has clips (`before` of a source). Else it is made of the frame
itself: pieces of it hold something else, its light and its noise are others, as a camera that stands would have seen it.

Shapes: B batch, H W pixels, N tokens of the grid, K of them computed, D width.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.bundle.memory import TURN, computed_counts
from edgeprune.model.carried import Before
from edgeprune.model.heads.guided import Guided
from edgeprune.runtime.changed import count_changed
from edgeprune.train.phase_run import PhaseRun
from edgeprune.train.recipe import Phase, Recipe
from edgeprune.train.tasks.task import Targets, Task

PIECES, LARGEST = 4, 0.45  # of a frame hold something else, at most; the largest side of one, as a share of the frame's
GAIN, NOISE = 0.02, 3.0  # deviations: of the light, as a share; of the pixels, in levels, at most
TURNS = 1 / 16  # of the tokens have their turn beside those that changed, at most


def is_remembered(run: PhaseRun, step: int) -> bool:
    """Whether the frames of a step come after others: the same in every process."""
    return bool(np.random.default_rng(run.seed_of(step)).random() < run.phase.remember)


def check_remembering(recipe: Recipe, name: str, phase: Phase, processes: int = 1, network: str | None = None) -> None:
    """Refuses a phase whose network or batches can't carry tokens.

    Raises:
        InputError: no block runs, there are tokens beside the grid or none at all, frames have no other to be told from, or
            clips are named that no step would see.
    """
    if not phase.remember:
        if any(mix.before for mix in phase.data):
            raise InputError(f"phase {name}: `before` of a source says nothing without `remember`; set remember: 0.5")
        return
    why = None
    if phase.kind == "policy":
        why = "no block runs in a phase of kind policy"
    elif network is not None:
        why = f"{network} has no tokens"
    elif recipe.model.extra_tokens:
        why = f"the model has {recipe.model.extra_tokens} extra tokens"
    elif phase.auxiliary is not None:
        why = "auxiliary heads learn from whole frames alone"
    elif phase.batch // (phase.accumulate * processes) < 2:
        raise InputError(
            f"phase {name}: remember measures a change against another scene, and a process sees one frame at a time; set "
            f"batch to {2 * phase.accumulate * processes} or more"
        )
    if why is not None:
        raise InputError(f"phase {name}: remember is {phase.remember:g}, and {why}; take it out")


class Seen(NamedTuple):
    """A part of a batch as a step sees it.

    Attributes:
        images_B3HW: levels 0-255.
        before: the frames before; None: each frame is by itself.
        guided: queries that learn beside the head's own; None: none do.
    """

    images_B3HW: Tensor
    targets: Targets
    before: Before | None
    guided: Guided | None = None

    @property
    def beside(self) -> dict[str, Any]:
        """What a network is called with beside images and labels, of these what there is: only a ViT knows of frames before."""
        return {name: said for name in ("before", "guided") if (said := getattr(self, name)) is not None}


def see(task: Task, frames: Tensor, targets: Targets, remembers: bool) -> Seen:
    """A part, augmented.

    Args:
        frames: uint8 (B, 3, H, W), or with the one before each (B, 2, 3, H, W), which is looked at where the step `remembers`.
    """
    before = None
    if frames.ndim == 4:
        images_B3HW, targets = task.augment(frames, targets)
    elif not remembers:
        images_B3HW, targets = task.augment(frames[:, 0], targets)
    else:
        images_B3HW, targets, before_B3HW = augment_both(task, frames, targets)
        before = Before(before_B3HW, choose_changed)
    return Seen(images_B3HW, targets, before, task.guided(targets))


def augment_both(task: Task, frames_B23HW: Tensor, targets: Targets) -> tuple[Tensor, Targets, Tensor]:
    """The frames of a batch and those before them, each pair under one window, flip and colour.

    Args:
        frames_B23HW: uint8, of each sample the frame and the one before; equal where there is none.

    Returns:
        frames (B, 3, H, W) as levels, their targets, and the frames before (B, 3, H, W).
    """
    draws = int(torch.randint(2**62, ()))
    (images_B3HW, augmented), (before_B3HW, _) = (
        _augment_by(task, draws, frames_B23HW[:, place], targets) for place in (0, 1)
    )
    is_alone_B = (frames_B23HW[:, 0] == frames_B23HW[:, 1]).flatten(1).all(1)
    before_B3HW = torch.where(is_alone_B[:, None, None, None], with_pieces(before_B3HW), before_B3HW)
    return images_B3HW, augmented, disturbed(before_B3HW)


def _augment_by(task: Task, seed: int, frames_B3HW: Tensor, targets: Targets) -> tuple[Tensor, Targets]:
    torch.manual_seed(seed)  # of all devices
    return task.augment(frames_B3HW, targets)


def with_pieces(images_B3HW: Tensor) -> Tensor:
    """Pieces of each frame show what another place of it, or of another frame of the batch, shows."""
    found_B3HW = images_B3HW.clone()
    batch, _, height, width = images_B3HW.shape
    for index in range(batch):
        for _ in range(int(torch.randint(PIECES + 1, ()))):
            sides = [max(1, int(LARGEST * size * float(torch.rand(())) ** 2)) for size in (height, width)]
            (y, from_y), (x, from_x) = (
                [int(torch.randint(size - side + 1, ())) for _ in range(2)]
                for size, side in zip((height, width), sides, strict=True)
            )
            source = images_B3HW[(index + int(torch.randint(2, ()))) % batch]
            piece = source[:, from_y : from_y + sides[0], from_x : from_x + sides[1]]
            found_B3HW[index, :, y : y + sides[0], x : x + sides[1]] = piece
    return found_B3HW


def disturbed(images_B3HW: Tensor) -> Tensor:
    """The same under another light, with a sensor's noise."""
    of_each = (len(images_B3HW), 1, 1, 1)
    gain_B = 1 + GAIN * torch.randn(of_each, device=images_B3HW.device)
    noise_B3HW = torch.randn_like(images_B3HW) * NOISE * torch.rand(of_each, device=images_B3HW.device)
    return (images_B3HW * gain_B + noise_B3HW).clamp(0, 255)


def choose_changed(before_BND: Tensor, now_BND: Tensor) -> Tensor:
    """The tokens of each frame that are computed (B, K), as a device chooses them: those that changed, and some whose turn it
    is; K is the smallest bucket that holds those of each frame of the batch.

    Args:
        before_BND, now_BND: embedded. The distance of two scenes is that between frames of the batch.
    """
    before_BND, now_BND = before_BND.detach().float(), now_BND.detach().float()
    scale = (now_BND - now_BND.roll(1, 0)).norm(dim=-1).median().clamp_min(1e-6)
    score_BN = (now_BND - before_BND).norm(dim=-1) / scale
    share = TURNS * torch.rand(())
    score_BN = torch.where(torch.rand_like(score_BN) < share, TURN + score_BN, score_BN)
    wanted = max(sum(count_changed(scores_N)[0]) for scores_N in score_BN.cpu().numpy())
    counts = computed_counts(score_BN.shape[1])
    return score_BN.topk(next(count for count in counts if count >= wanted), dim=-1).indices
