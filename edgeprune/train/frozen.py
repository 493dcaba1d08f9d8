"""The first blocks of a model and the embedding before them, kept as they are while the rest learns.

They ask for no gradient, so the backward pass ends above them and nothing is kept for it, but where a gate between them
learns. They run in evaluation mode: no statistics of a norm follow the batch, and no branch is skipped.
"""

from edgeprune.model.network import Network
from edgeprune.model.segmenter import Segmenter


def freeze(model: Segmenter, blocks: int) -> None:
    """Lets the embedding and so many blocks ask for no gradient; of no blocks, nothing."""
    for name, parameter in model.named_parameters():
        if blocks and model.layer_of(name) <= blocks:
            parameter.requires_grad_(False)


def begin_training(model: Network, frozen: int) -> None:
    """Training mode for all but the embedding and so many blocks, where these are frozen."""
    model.train()
    if not frozen:
        return
    assert isinstance(model, Segmenter)
    embedding = [part for name, part in model.stem.named_children() if name not in model.stem.for_the_head]
    for part in (*embedding, *model.blocks[:frozen]):
        part.eval()
