"""The card of a checkpoint, its header: what the weights are, and where they come from.

It is read without torch, whose import takes seconds and hundreds of megabytes: what is no checkpoint is refused before.
"""

import os
from pathlib import Path
from typing import Any

from pydantic import Field
from safetensors import SafetensorError, safe_open

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import look_at
from edgeprune.base.reading import Name, Strict, parse
from edgeprune.base.strict_json import parse_json
from edgeprune.bundle.manifest import Byte, DisplayName
from edgeprune.model.spec import ModelSpec, PolicySpec

HEADER = "edgeprune"
ANY = "*"  # in place of the name of a network: whatever the weights are of


class Card(Strict):
    """The header of a checkpoint: what the weights are, and where they come from."""

    name: Name  # `build` names a folder by it, so it is the name of one
    model: ModelSpec
    policy: PolicySpec
    quantized: bool = False
    names: list[DisplayName]
    palette: list[tuple[Byte, Byte, Byte]]
    network: Name | None = None  # what the weights are of, where that is no ViT of edgeprune's: a peer of the lab's
    provenance: dict[str, Any] = Field(default_factory=dict)

    def to_header(self) -> str:
        """As a file has it. One of a ViT names no network: earlier versions know no such key."""
        return self.model_dump_json(exclude={"network"} if self.network is None else None)


def look_at_checkpoint(path: Path) -> None:
    """Refuses what is no file that can be read as a checkpoint, before it is opened.

    Raises:
        InputError: it is missing (the message lists what is there), no regular file, or too large.
    """
    if not os.path.lexists(path):
        beside = sorted(file.name for file in path.parent.glob("*.safetensors")) if os.path.isdir(path.parent) else []
        there = f"; that folder has {', '.join(beside[:5])}" if beside else ""
        raise InputError(f"checkpoint {path} is not there{there}; give a .safetensors file or run `edgeprune train`")
    look_at(path, "checkpoint")


def read_header(path: Path, network: str | None = None) -> tuple[Card, dict[str, Any]]:
    """The card, and what is written of it: keys that the file leaves out have their defaults in the card.

    Args:
        network: what the weights must be of, as `Card.network` names it; None: a ViT of edgeprune's; `ANY`.

    Raises:
        InputError: no checkpoint, a damaged one, a safetensors file of something else, or weights of another network.
    """
    look_at_checkpoint(path)
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None
    if HEADER not in metadata:
        raise InputError(
            f"{path} is no edgeprune checkpoint; for bare ViT weights name it as `weights:` in a recipe and train"
        )
    where = f"checkpoint {path}"
    content = parse_json(metadata[HEADER], f"{where}: its header")
    card = parse(Card, content, where)
    if network not in (ANY, card.network):
        why = "a peer of the lab, which has no tokens to prune and graphs of its own; " if network is None else ""
        raise InputError(f"{where} is of {card.network or 'a ViT'}, {why}name a checkpoint of {network or 'a ViT'}")
    for what, found in (("class names", len(card.names)), ("colours", len(card.palette))):
        if found != card.model.classes:
            raise InputError(f"{where}: its header has {found} {what} for {card.model.classes} classes; copy it again")
    return card, content
