"""What a run is of: what stays the same from its first frame to its last, for those who look on."""

from collections.abc import Mapping
from dataclasses import dataclass

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
    """

    model: str
    engine: str
    names: tuple[str, ...]
    shares: Mapping[str, float]
    energy: str

    @classmethod
    def of(cls, stream: Stream, meter: Meter) -> "About":
        """`meter`: not started yet."""
        manifest, engine = stream.bundle.manifest, stream.session.describe()
        return cls(
            model=manifest.name,
            engine=f"{engine['engine']} {engine['version']} ({engine['provider']}), {engine['precision']}",
            names=tuple(stream.names),
            shares={bucket.name: bucket.token_layers / stream.all_tokens for bucket in manifest.buckets},
            energy=meter.stop().status
            if isinstance(meter, NoMeter)
            else f"measured by {meter.name}; the figure comes with the end of the run",
        )
