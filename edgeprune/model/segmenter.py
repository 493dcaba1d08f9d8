"""The segmenter: normalise -> stem -> position embedding -> blocks under a token policy -> norm -> head.

Shapes: B batch, H W pixels of the frame, N tokens of the grid (Gh x Gw), of which a region leaves those inside (M: all patches
all the same), E extra tokens, D width, K classes.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeprune.base.errors import InputError, choose
from edgeprune.data.region import Region
from edgeprune.model.blocks import Block
from edgeprune.model.carried import Before, carry
from edgeprune.model.extra_tokens import ExtraTokens
from edgeprune.model.heads import HEADS
from edgeprune.model.heads.guided import Guided
from edgeprune.model.heads.head import Raw
from edgeprune.model.inside import Inside
from edgeprune.model.network import Network, Prediction
from edgeprune.model.policy import Bucket, Masked, Select, TokenPolicy, View
from edgeprune.model.spec import ModelSpec
from edgeprune.model.stem import CHANNELS, STEMS

WIDTHS = {"tiny": 192, "small": 384, "base": 768, "large": 1024}
# mean and deviation of the levels, of each colour: what timm-format weights were trained with
NORMALISE = {
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),  # DeiT, MAE, DINOv2
    "half": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),  # AugReg
}


class Segmenter(Network):
    """A plain ViT for segmentation whose tokens a policy selects."""

    mean: Tensor
    std: Tensor
    inside_N: Tensor
    row_M: Tensor

    def __init__(self, spec: ModelSpec, policy: TokenPolicy):
        super().__init__()
        if spec.height % spec.patch or spec.width % spec.patch:
            raise InputError(f"model input {spec.height}x{spec.width}: both must be multiples of {spec.patch}")
        self.spec = spec
        width = WIDTHS[spec.size]
        self.grid = spec.grid
        stem = choose(STEMS, spec.stem, "stem")
        mean, std = choose(NORMALISE, spec.normalise, "normalisation")
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1), persistent=False)
        self.stem = stem(width, spec.patch, CHANNELS[spec.convolutions])
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid[0] * self.grid[1], width))
        self.extra_tokens = nn.Parameter(torch.zeros(1, spec.extra_tokens, width)) if spec.extra_tokens else None
        self.blocks = nn.ModuleList(Block(width, spec.layer_scale) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.head = choose(HEADS, spec.task, "task")(width, spec, self.stem.skip_channels)
        self.policy = policy
        self._initialise()

    def _initialise(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if self.extra_tokens is not None:
            nn.init.trunc_normal_(self.extra_tokens, std=0.02)
        self.head.initialise()

    def layer_of(self, name: str) -> int:
        for_the_head = tuple(f"stem.{part}." for part in self.stem.for_the_head)
        if name.startswith("blocks."):
            return int(name.split(".")[1]) + 1
        if name.startswith(("stem.", "pos_embed", "extra_tokens")) and not name.startswith(for_the_head):
            return 0
        return len(self.blocks) + (2 if name.startswith("policy.") else 1)

    def label_map(self, raw: Raw) -> Tensor:
        found: Tensor = self.head.label_map(raw)
        return found

    def share_of_dense(self, bucket: Bucket) -> float:
        """Tokens that the blocks process at a bucket, as a share of those of the dense model on the whole frame."""
        return self.policy.schedule.token_layers(bucket.counts) / (self.spec.depth * self.grid[0] * self.grid[1])

    def restrict(self, region: Region | None) -> None:
        """From here on no block computes a token outside the region; None, or one of all patches: the whole frame, as it was.
        For calibration and graphs, not for training.

        The stem sees the whole frame. The head takes zeros for the tokens outside: none of them is handed on, and none decides
        a label inside. (With the embedded tokens in their place a tail would take them all from the trunk.)

        Raises:
            InputError: another grid than the model's, or a policy that has no such form.
        """
        if region is None:
            return
        (height, width), side = self.grid, self.policy.cell_side
        if region.grid != self.grid:
            raise InputError(
                f"a region of {region.grid[0]}x{region.grid[1]} patches, the model has {height}x{width}; calibrate this model "
                "with --region"
            )
        if height % side or width % side:
            raise InputError(f"a region needs whole cells of {side}x{side} patches, the model has {height}x{width}")
        inside = Inside.of(region, side)
        if inside.region.share == 1:
            return
        self.policy.restrict(inside)
        self.inside = inside
        self.register_buffer("inside_N", inside.numbers(), persistent=False)
        self.register_buffer("row_M", inside.rows(), persistent=False)
        self.to(self.pos_embed.device)

    def view(self, images_B3HW: Tensor, labels_BHW: Tensor, ignore_index: int) -> View:
        """What a policy may look at of images (levels 0-255) and their labels, where no token is computed."""
        grid = (images_B3HW.shape[-2] // self.spec.patch, images_B3HW.shape[-1] // self.spec.patch)
        return View((images_B3HW - self.mean) / self.std, grid, labels_BHW, ignore_index)

    def embed(self, images_B3HW: Tensor) -> tuple[Tensor, list[Tensor], View]:
        """Levels 0-255 -> tokens (B, N, D) with their positions, the stem's skips, and what a policy may look at.

        At another size than the model's own the position embedding is resized (Dosovitskiy 2021, section 3.2).
        """
        normal_B3HW = ((images_B3HW - self.mean) / self.std).to(self.pos_embed.dtype)
        x_BND, skips = self.stem(normal_B3HW)
        grid = (images_B3HW.shape[-2] // self.spec.patch, images_B3HW.shape[-1] // self.spec.patch)
        pos_1ND: Tensor = self.pos_embed
        if grid != self.grid:
            pos_1ND = resize_positions(pos_1ND, self.grid, grid)
        x_BND = x_BND + pos_1ND
        if self.inside is None:
            return x_BND, skips, View(normal_B3HW, grid)
        assert grid == self.grid  # a region is of the model's own input
        return x_BND.index_select(1, self.inside_N), skips, View(normal_B3HW, self.inside.grid, image_grid=grid)

    def forward(
        self,
        images_B3HW: Tensor,
        select: Select | None = None,
        labels_BHW: Tensor | None = None,
        ignore_index: int = 255,
        progress: float = 1.0,
        guided: Guided | None = None,
        before: Before | None = None,
    ) -> Prediction:
        """The training form; see `Network`. `before`: the frames before, whose tokens stand where they are not computed; the
        policy is passed by then."""
        x_BND, skips, view = self.embed(images_B3HW)
        if before is not None:
            x_BND = self.norm(carry(self.blocks, self.embed(before.images_B3HW)[0], x_BND, before.choose))
            raw = self.finish(x_BND, view.whole_grid, skips, guided=guided)
            # each parameter has a gradient in every step, which is what several processes wait for
            nothing = sum((0.0 * parameter.sum() for parameter in self.policy.parameters()), x_BND.new_zeros(()))
            return Prediction(raw, x_BND, Masked(x_BND, [], nothing))
        view = replace(view, labels_BHW=labels_BHW, ignore_index=ignore_index, progress=progress)
        extras = self.new_extras(x_BND.shape[0])
        heads = self.auxiliary if self.training else None
        blocks = extras.around(self.blocks)
        if heads is not None:
            blocks = heads.around(blocks)
        masked = self.policy.masked(blocks, x_BND, view, select)
        x_BND = self.norm(masked.x_BND)
        raw = self.finish(x_BND, view.whole_grid, skips, masked.frozen_BNK, masked.open_BN, guided)
        return Prediction(raw, x_BND, masked, [] if heads is None else heads(blocks, view.grid))

    def new_extras(self, *lead: int) -> ExtraTokens:
        """The extra tokens with their positions before the first block, for tokens (*lead, N, D)."""
        if self.extra_tokens is None:
            return ExtraTokens(None)
        return ExtraTokens(self.extra_tokens.expand(*lead, -1, -1) if lead else self.extra_tokens[0])

    def finish(
        self,
        x_BND: Tensor,
        grid: tuple[int, int],
        skips: Sequence[Tensor],
        frozen_BNK: Tensor | None = None,
        open_BN: Tensor | None = None,
        guided: Guided | None = None,
    ) -> Raw:
        """What the head makes of normalised tokens; where a token left early, of the logits it left with. `grid`: of all
        patches, inside a region and outside."""
        raw = self.head(self._everywhere(x_BND), grid, skips, guided)
        if frozen_BNK is None or open_BN is None:
            return raw
        # no token left outside a region: there the answer is the head's
        open_BM = self._everywhere(open_BN, outside=1.0)
        return self.head.with_early_exits(raw, self._everywhere(frozen_BNK), open_BM, grid)

    def _everywhere(self, of_BN: Tensor, outside: float = 0.0) -> Tensor:
        """What is said of tokens, for every patch of the frame (B, M, ...)."""
        if self.inside is None:
            return of_BN
        return torch.cat((of_BN, torch.full_like(of_BN[:, :1], outside)), dim=1).index_select(1, self.row_M)

    # -------------------------------------------------------------------------------- inference form, one frame

    def trunk(self, frame_HW3: Tensor) -> tuple[Tensor, list[Tensor], Tensor | None]:
        """Frame (H, W, 3) uint8 -> tokens (E + N, D) before the first decision, skips, the first decision's scores."""
        x_BND, skips, view = self.embed(as_image(frame_HW3))
        extras = self.new_extras()
        blocks = extras.around(self.blocks[: self.policy.schedule.trunk_depth])
        x_ND, scores_S = self.policy.trunk(blocks, x_BND[0], view)
        return extras.join(x_ND), skips, scores_S

    def tail(self, x_ND: Tensor, skips: Sequence[Tensor], scores_S: Tensor | None, counts: Sequence[int]) -> Raw:
        """The rest at constant counts -> what the head computes, such as logits (1, K, H/2, W/2)."""
        return self.tail_with_selections(x_ND, skips, scores_S, counts)[0]

    def tail_with_selections(
        self, x_ND: Tensor, skips: Sequence[Tensor], scores_S: Tensor | None, counts: Sequence[int]
    ) -> tuple[Raw, list[Tensor]]:
        """What `tail` gives, and what the decisions chose on the way (`Gathered.selected_GK`)."""
        extras = self.new_extras()
        x_ND = extras.split(x_ND)
        blocks = extras.around(self.blocks[self.policy.schedule.trunk_depth :])
        frozen_1NK = open_1N = None
        selected: list[Tensor] = []
        if self.policy.gated:
            assert scores_S is not None  # the trunk of a gated policy gives them
            gathered = self.policy.gathered(blocks, x_ND, counts, scores_S)
            if gathered.frozen_NK is not None and gathered.open_N is not None:
                frozen_1NK, open_1N = gathered.frozen_NK[None], gathered.open_N[None]
            x_ND, selected = gathered.x_ND, gathered.selected_GK
        return self.finish(self.norm(x_ND)[None], self.grid, skips, frozen_1NK, open_1N), selected


def as_image(frame_HW3: Tensor) -> Tensor:
    """Frame (H, W, 3) uint8 -> levels (1, 3, H, W). Cast before anything else: TensorRT's parser takes a UINT8 input into a
    Cast and into no other operator (onnx-tensorrt, ModelImporter.cpp, "UINT8 types for intermediate tensors")."""
    return frame_HW3.float().permute(2, 0, 1)[None]


def resize_positions(pos_1ND: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Bicubic resize of position embeddings from one grid to another."""
    pos_1DHW = pos_1ND.transpose(1, 2).unflatten(2, old)
    pos_1DHW = F.interpolate(pos_1DHW.float(), size=new, mode="bicubic", align_corners=False, antialias=True)
    return pos_1DHW.flatten(2).transpose(1, 2).to(pos_1ND.dtype)
