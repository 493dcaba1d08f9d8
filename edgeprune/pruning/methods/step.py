"""STEP: superpatches of several sizes by a CNN that looks at the image (dCTS), then early exit ("STEP: SuperToken and
Early-Pruning for Efficient Semantic Segmentation", Proust et al. 2025; it builds on CTS, Lu et al., CVPR 2023, and on DToP,
Tang et al., ICCV 2023). Its halves alone are the policies `cts` and `dtop`."""

from pydantic import Field

from edgeprune.base.errors import InputError
from edgeprune.model.policy import Shape
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.decisions import ABOUT_LEVELS, ExitOptions, Levels, dividing

SHARES = {16: 0.1, 8: 0.2, 4: 0.2, 2: 0.15}  # of the image, where all four sides divide the grid
MERGED = sum(share * (1 - side**-2) for side, share in SHARES.items())  # so many of the tokens go


class STEPOptions(ExitOptions):
    """Settings of the `step` policy. By default superpatches leave 40% of the tokens, as the paper claims, and 40% of these
    leave early; how the paper shares the sizes is not published."""

    levels: Levels | None = Field(
        None,
        description=f"{ABOUT_LEVELS}; default: those of 16 (a tenth of the image), 8 (.2), 4 (.2) and 2 (.15) that divide the "
        "grid, of which the largest takes so much that 40% of the tokens are left all the same",
    )


class STEP(Combination):
    """Superpatches before the first block, then exits (see `combination`)."""

    def __init__(self, shape: Shape, options: STEPOptions):
        levels = default_levels(shape.grid) if options.levels is None else list(options.levels)
        super().__init__(shape, levels, exits=options)
        self.chosen = self.chosen_exits
        if options.levels is None:
            self.chosen |= {"levels": [list(level) for level in levels]}


def default_levels(grid: tuple[int, int]) -> list[tuple[int, float]]:
    """The sides that divide the grid; on 24x32 patches 8, 4 and 2.

    Raises:
        InputError: none does.
    """
    sides = dividing(grid)
    if not sides:
        raise InputError(
            f"policy: step: no side of superpatches (16, 8, 4, 2) divides the grid of {grid[0]}x{grid[1]} patches; choose an "
            "input whose sides are multiples of 32 pixels, or `levels: []` for exits alone"
        )
    largest, *others = sides
    rest = sum(SHARES[side] * (1 - side**-2) for side in others)
    return [(largest, round((MERGED - rest) / (1 - largest**-2), 3)), *((side, SHARES[side]) for side in others)]
