"""From a checkpoint to the model: the network, its policy, its fake-quantizers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgeprune.base.errors import InputError, choose
from edgeprune.model.card import ANY, Card, read_header
from edgeprune.model.checkpoint import POSITIONS, check_size, load_tensors, shape_of
from edgeprune.model.network import NETWORKS, Network
from edgeprune.model.segmenter import Segmenter, resize_positions
from edgeprune.model.spec import ModelSpec
from edgeprune.model.stem import Stem
from edgeprune.model.weight_files import read_safetensors
from edgeprune.model.weights import fold_layer_scale, is_finite
from edgeprune.pruning.methods import as_trained, make_policy
from edgeprune.quantize.linear import quantize_linears

OF_CLASSES = (".classify.", ".heatmap.")  # layers with an output for each class


def make_model(card: Card) -> Segmenter:
    """An untrained model as a card describes it."""
    model = Segmenter(card.model, make_policy(card.policy, shape_of(card.model)))
    if card.quantized:
        quantize_linears(model)
    return model


def read_card(path: Path, network: str | None = None) -> Card:
    """The header alone. One of an earlier version, whose policies had other defaults, comes with these written out.

    Args:
        network: see `read_header`.

    Raises:
        InputError: see `read_header`.
    """
    card, content = read_header(path, network)
    if is_earlier(content):
        card.policy = as_trained(card.policy, shape_of(card.model))
    return card


def is_earlier(header: dict[str, Any]) -> bool:
    """Whether a checkpoint was written before policies got the defaults that they have now.

    `model.preprocess`, which stands in every header since, came a little before them, and `made_of`, which training writes
    beside its recipe, with them.
    """
    provenance = header.get("provenance", {})
    return "preprocess" not in header["model"] or ("recipe" in provenance and "made_of" not in provenance)


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
        own = card.model.grid
        card.model = card.model.model_copy(update={"height": size[0], "width": size[1]})
        tensors[POSITIONS] = resize_positions(tensors[POSITIONS], own, card.model.grid)
    model = make_model(card)
    load_tensors(model, tensors, str(path))
    return model.eval(), card


def find_network(name: str, where: str) -> Callable[[ModelSpec], Network]:
    """What makes an untrained network of this name, which is that of no ViT.

    Args:
        where: what is of that network, for messages.

    Raises:
        InputError: NETWORKS has no such row, or none at all: no study was imported.
    """
    if not NETWORKS:
        raise InputError(
            f"{where} is of {name}, and only ViTs are known here; in Python type `import edgeprune.lab.peers` before"
        )
    return choose(NETWORKS, name, f"network in {where}:")


def load_network(path: Path) -> tuple[Network, Card]:
    """What a checkpoint is of, a ViT or not, in FP32 and in evaluation mode.

    Raises:
        InputError: see `load` and `find_network`.
    """
    card = read_card(path, ANY)
    if card.network is None:
        return load(path)
    network = find_network(card.network, f"checkpoint {path}")(card.model)
    load_tensors(network, read_safetensors(path), str(path))
    return network.eval(), card


def load_start(model: Segmenter, path: Path, names: list[str]) -> list[str]:
    """Copies a checkpoint's weights into a model that is trained on from there: one of other gates, fewer blocks, other
    classes, another task, another number of convolution channels, without the layer scale, which is folded, or of another input
    size, to which positions are resized.

    Args:
        names: of the model's classes. Where the checkpoint's are others, as many or not, last layers begin anew: its third
            class is not ours.

    Returns:
        what begins anew, in words.

    Raises:
        InputError: see `load_tensors` and `read_card`; or other extra tokens.
    """
    card, tensors = read_card(path), read_safetensors(path)
    check_size(card, tensors, f"checkpoint {path}")
    if card.model.extra_tokens != model.spec.extra_tokens:
        raise InputError(
            f"checkpoint {path} has {card.model.extra_tokens} extra tokens, the model {model.spec.extra_tokens}: choose "
            f"model.extra_tokens: {card.model.extra_tokens}"
        )
    if model.spec.layer_scale is None and fold_layer_scale(tensors) and card.quantized:
        raise InputError(
            f"checkpoint {path} has a layer scale and ranges of INT8 beside it, the model has none; choose model.layer_scale: "
            f"{card.model.layer_scale}, or begin with the phase before it"
        )
    anew: dict[str, list[str]] = {}
    if card.names != names:
        anew["has other classes, so its last layer begins anew"] = list(OF_CLASSES)
    if card.model.task != model.spec.task:
        anew[f"is of task {card.model.task}, so the head begins anew"] = ["head."]
    if card.model.convolutions != model.spec.convolutions:
        parts = [f"stem.{part}." for part in model.stem.convolutions]
        anew["has other convolutions, so the head and what it sees of the stem begin anew"] = ["head.", *parts]
    parts = [part for each in anew.values() for part in each]
    tensors = {key: value for key, value in tensors.items() if not any(part in key for part in parts)}
    if card.model.grid != model.grid:
        tensors[POSITIONS] = resize_positions(tensors[POSITIONS], card.model.grid, model.grid)
    load_tensors(model, tensors, str(path), partial=True, anew=parts)
    return list(anew)


def load_head(model: Network, path: Path, names: list[str]) -> str:
    """Copies the head of a checkpoint, and the convolutions that it alone sees, into a model of another network of its task: to
    find things is learnt from many, of which a data set of one's own has few.

    What has another shape there begins anew, as what reads tokens of another width; so do layers of the classes where these
    are others.

    Args:
        names: of the model's classes.

    Returns:
        how much was taken and what begins anew, in words.

    Raises:
        InputError: see `read_card`; the checkpoint is of another task, nothing of it fits, or it holds what is no number.
    """
    card, tensors = read_card(path, ANY), read_safetensors(path)
    if card.model.task != model.spec.task:
        raise InputError(
            f"head {path} is of task {card.model.task}, the model of {model.spec.task}; name a checkpoint of that task"
        )
    stem = getattr(model, "stem", None)
    seen = tuple(f"stem.{part}." for part in stem.for_the_head) if isinstance(stem, Stem) else ()
    given = {
        key: value for key, value in tensors.items() if key.startswith(("head.", *seen)) and "_quantizer." not in key
    }
    own, others = model.state_dict(), OF_CLASSES if card.names != names else ()
    fitting = {
        key: value.to(own[key].dtype)
        for key, value in given.items()
        if value.ndim and key in own and own[key].shape == value.shape and not any(part in key for part in others)
    }
    if not fitting:
        raise InputError(f"head {path}: nothing of it fits into the model; name one of as many convolution channels")
    if broken := next((key for key, value in fitting.items() if not is_finite(value)), None):
        raise InputError(f"head {path}: {broken} holds values that are no finite numbers; copy the file again")
    model.load_state_dict(fitting, strict=False)
    parts = (key for key, value in own.items() if value.ndim and key.startswith(("head.", *seen)))
    anew = sorted({key.rpartition(".")[0] for key in parts if key not in fitting})
    said = f"{path} gives {len(fitting)} tensors of the head; {', '.join(anew) or 'nothing'} begins anew"
    if card.model.normalise != model.spec.normalise:
        said += f"; it was trained with normalise {card.model.normalise}, the model has {model.spec.normalise}"
    return said
