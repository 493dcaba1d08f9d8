"""What a model is made of, as a recipe and a checkpoint name it: read without torch."""

from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from edgeprune.base.reading import Strict
from edgeprune.data.preprocess import PreprocessName


class ModelSpec(Strict):
    """A plain ViT for segmentation; see `model/segmenter.py`."""

    task: str = Field("semantic", description="what it answers: a row of `model.heads.HEADS`")
    size: Literal["tiny", "small", "base", "large"] = Field(
        "tiny", description="width 192, 384, 768 or 1024; heads are of 64"
    )
    depth: int = Field(12, ge=1, le=64, description="blocks")
    stem: Literal["conv", "patch", "patch-conv"] = Field(
        "conv", description="a row of `model.stem.STEMS`; a pretrained patch embedding loads into patch and patch-conv"
    )
    patch: Literal[14, 16] = Field(16, description="pixels of a patch's side; 14 as DINOv2 has it, not with stem conv")
    height: int = Field(
        384, ge=32, le=4096, validate_default=True, description="of the input, in pixels: a multiple of `patch`"
    )
    width: int = Field(512, ge=32, le=4096, validate_default=True, description="a multiple of `patch` too")
    convolutions: Literal["full", "half"] = Field(
        "full",
        description="channels of what is finer than a patch: full has 16, 32 and 64 in the stem and 64 and 32 in the head, "
        "half has half of each",
    )
    label_stride: Literal[2, 4] = Field(
        2, description="pixels of the input for one label, each way: 4 costs less where few things are thinner"
    )
    queries: int = Field(
        64, ge=1, le=300, description="of the instance task: at most so many things are found in a frame"
    )
    mask_extent: bool = Field(
        False, description="of the instance task: queries read how far their masks reach, for boxes of large things"
    )
    classes: int = Field(11, ge=2, le=255, description="as many as the data set has names")
    extra_tokens: int = Field(
        0,
        ge=0,
        le=64,
        description="beside those of the grid, which no policy drops: the class and register tokens of pretrained weights",
    )
    layer_scale: float | None = Field(
        None, gt=0, le=10, description="what LayerScale's factors begin at; null: the blocks have none"
    )
    normalise: Literal["imagenet", "half"] = Field(
        "imagenet", description="mean and deviation of the levels; AugReg's weights were trained with half (127.5 both)"
    )
    preprocess: PreprocessName = Field(
        "letterbox", description="how a frame is fitted to the input; checkpoints from before this key name none"
    )

    @field_validator("patch")
    @classmethod
    def _of_the_stem(cls, patch: int, before: ValidationInfo) -> int:
        if before.data.get("stem") == "conv" and patch != 16:
            raise ValueError("the strides of stem conv make patches of 16; choose stem patch or patch-conv")
        return patch

    @field_validator("height", "width")
    @classmethod
    def _whole_patches(cls, side: int, before: ValidationInfo) -> int:
        if side % before.data.get("patch", 1):
            raise ValueError(f"expected a multiple of the patch, {before.data['patch']}")
        return side

    @field_validator("label_stride")
    @classmethod
    def _divides_the_patch(cls, stride: int, before: ValidationInfo) -> int:
        if (patch := before.data.get("patch", stride)) % stride:
            raise ValueError(f"patches of {patch} are no whole labels of {stride} pixels; choose 2")
        return stride

    @property
    def grid(self) -> tuple[int, int]:
        """Patches (Gh, Gw) of the input."""
        return self.height // self.patch, self.width // self.patch


class PolicySpec(Strict):
    """A token policy of `pruning.methods.POLICIES` and its settings (a mapping that the policy's own spec checks)."""

    name: str = Field("dense", description="a row of `pruning.methods.POLICIES`")
    options: dict[str, Any] = Field({}, description="the policy's own, below")
