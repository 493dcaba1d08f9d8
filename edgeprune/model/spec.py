"""What a model is made of, as a recipe and a checkpoint name it: read without torch."""

from typing import Any, Literal

from pydantic import Field

from edgeprune.base.reading import Strict
from edgeprune.data.preprocess import PreprocessName


class ModelSpec(Strict):
    """A plain ViT for segmentation; see `model/segmenter.py`."""

    task: str = Field("semantic", description="what it answers: a row of `model.heads.HEADS`")
    size: Literal["tiny", "small", "base", "large"] = "tiny"
    depth: int = Field(12, ge=1, le=64)
    stem: Literal["conv", "patch", "patch-conv"] = Field(
        "conv", description="a row of `model.stem.STEMS`; a pretrained patch embedding loads into patch and patch-conv"
    )
    height: int = Field(384, ge=32, le=4096, multiple_of=16, description="of the input; patches are of 16 pixels")
    width: int = Field(512, ge=32, le=4096, multiple_of=16)
    classes: int = Field(11, ge=2, le=255)
    extra_tokens: int = Field(
        0,
        ge=0,
        le=64,
        description="beside those of the grid, which no policy drops: the class and register tokens of pretrained weights",
    )
    layer_scale: float | None = Field(None, gt=0, le=10)
    normalise: Literal["imagenet", "half"] = Field(
        "imagenet", description="mean and deviation of the levels; AugReg's weights were trained with half (127.5 both)"
    )
    preprocess: PreprocessName = Field(
        "letterbox", description="how a frame is fitted to the input; checkpoints from before this key name none"
    )


class PolicySpec(Strict):
    """A token policy of `pruning.methods.POLICIES` and its settings (a mapping that the policy's own spec checks)."""

    name: str = "dense"
    options: dict[str, Any] = {}
