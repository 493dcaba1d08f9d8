"""The synthetic street with a camera of another speed. It is no part of the renderer, whose scenes stay the same."""

from edgeprune.street.camera import Camera
from edgeprune.street.street import Street


class Drive(Street):
    """The camera is faster or slower than the street's own, or stands while traffic passes.

    Args:
        speed: of the camera, in hundredths of the street's own: of its way, its turns and its sway.
    """

    def __init__(self, seed: int, height: int, width: int, speed: int, population: str = "street") -> None:
        super().__init__(seed, height, width, population)
        self._pace = speed / 100

    def camera(self, time: float) -> Camera:
        """Where it is `time` seconds after the start of the street, which goes on at its own pace."""
        return super().camera(self._pace * time)
