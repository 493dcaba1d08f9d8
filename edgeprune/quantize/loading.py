"""From a checkpoint to the model: the network, its policy, its fake-quantizers."""

from pathlib import Path

from edgeprune.model.checkpoint import POSITIONS, Card, check_size, load_tensors, read_card, shape_of
from edgeprune.model.segmenter import Segmenter, resize_positions
from edgeprune.model.stem import PATCH
from edgeprune.model.weights import read_safetensors
from edgeprune.pruning.methods import make_policy
from edgeprune.quantize.linear import quantize_linears


def make_model(card: Card) -> Segmenter:
    """An untrained model as a card describes it."""
    model = Segmenter(card.model, make_policy(card.policy, shape_of(card.model)))
    if card.quantized:
        quantize_linears(model)
    return model


def load(path: Path, size: tuple[int, int] | None = None) -> tuple[Segmenter, Card]:
    """The model of a checkpoint, in FP32 and in evaluation mode.

    Args:
        size: (height, width) of the input where it is not to be the checkpoint's own; positions are resized.

    Raises:
        InputError: see `read_card`; the tensors are not those of the model that the header describes; or a size that is
            no multiple of the patch.
    """
    card, tensors = read_card(path), read_safetensors(path)
    check_size(card, tensors, f"checkpoint {path}")
    if size is not None:
        own = (card.model.height // PATCH, card.model.width // PATCH)
        card.model = card.model.model_copy(update={"height": size[0], "width": size[1]})
        tensors[POSITIONS] = resize_positions(tensors[POSITIONS], own, (size[0] // PATCH, size[1] // PATCH))
    model = make_model(card)
    load_tensors(model, tensors, str(path))
    return model.eval(), card
