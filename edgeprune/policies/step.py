"""STEP: superpatches of several sizes by a CNN that looks at the image (dCTS), then early exit ("STEP: SuperToken and
Early-Pruning for Efficient Semantic Segmentation", Proust et al. 2025; it builds on CTS, Lu et al., CVPR 2023, and on DToP,
Tang et al., ICCV 2023). Its halves alone are the policies `cts` and `dtop`."""

from pydantic import Field

from edgeprune.model.policy import Shape
from edgeprune.policies.combination import Combination
from edgeprune.policies.decisions import ABOUT_LEVELS, ExitOptions, Levels


class STEPOptions(ExitOptions):
    """Settings of the `step` policy. By default superpatches leave 40% of the tokens, as the paper claims, and 40% of these
    leave early; how the paper shares the sizes is not published."""

    levels: Levels = Field([(16, 0.1), (8, 0.2), (4, 0.2), (2, 0.15)], description=ABOUT_LEVELS)


class STEP(Combination):
    """Superpatches before the first block, then exits (see `combination`)."""

    def __init__(self, shape: Shape, options: STEPOptions):
        super().__init__(shape, options.levels, exits=options)
