"""Where the panels of a picture lie: in rows, with a gap between them and around."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

GROUND_RGB, TEXT_RGB = (16, 18, 22), (240, 240, 236)


@dataclass(frozen=True)
class PanelGrid:
    """Panels of one width; all in pixels.

    Attributes:
        columns: of the widest row.
        heights: of each row, captions included.
        panel_px: width of a panel.
        top: of the first row.
    """

    columns: int
    heights: Sequence[int]
    panel_px: int
    gap_px: int
    top: int

    @property
    def width(self) -> int:
        return self.columns * (self.panel_px + self.gap_px) + self.gap_px

    @property
    def bottom(self) -> int:
        """With the gap under the last row."""
        return self.top + sum(self.heights) + len(self.heights) * self.gap_px

    def at(self, row: int, column: int) -> tuple[int, int]:
        """Left and top of a panel."""
        left = self.gap_px + column * (self.panel_px + self.gap_px)
        return left, self.top + sum(self.heights[:row]) + row * self.gap_px

    def ground(self, below: int = 0) -> Image.Image:
        """The picture without its panels, and with so much room under them."""
        return Image.new("RGB", (self.width, self.bottom + below), GROUND_RGB)
