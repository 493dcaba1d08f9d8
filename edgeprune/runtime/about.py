"""What a run is of, for those who look on: what stays the same while a bundle runs, and whom to ask for the rest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeprune.runtime.cameras.capture import Capture
from edgeprune.runtime.meters import Meter
from edgeprune.runtime.meters.none import NoMeter
from edgeprune.runtime.stream import Stream


@dataclass(frozen=True)
class About:
    """A run.

    Attributes:
        model: its name in the bundle.
        engine: what runs it, in words.
        names: of the classes, by their ids.
        shares: of the dense model's tokens that each bucket processes, by the bucket's name, in the bundle's order.
        energy: what measures, or why nothing does.
        damaged: frames that were left out until now because they decode badly.
        map_tokens: asks for what becomes of the tokens of the frames of the next so many seconds, as `Stream.map_tokens`.
    """

    model: str
    engine: str
    names: tuple[str, ...]
    shares: Mapping[str, float]
    energy: str
    damaged: Callable[[], int]
    map_tokens: Callable[[float], bool]

    @classmethod
    def of(cls, stream: Stream, meter: Meter, capture: Capture | None = None) -> "About":
        """`meter`: not started yet. `capture`: of the camera, by default the stream's own."""
        manifest, engine, capture = stream.bundle.manifest, stream.describe(), capture or stream.capture
        return cls(
            model=manifest.name,
            engine=f"{engine['engine']} {engine['version']} ({engine['provider']}), {engine['precision']}",
            names=tuple(stream.names),
            shares=stream.shares,
            energy=meter.stop().status if isinstance(meter, NoMeter) else f"measured by {meter.name}",
            damaged=lambda: capture.damaged if capture else 0,
            map_tokens=stream.map_tokens,
        )
