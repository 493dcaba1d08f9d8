"""Files of weights: from the hub, the zoo or a path to tensors, and what stands beside them."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from edgeprune.base.errors import InputError
from edgeprune.base.reading import ROOT
from edgeprune.model.card import look_at_checkpoint

HUB = "hub:"
ZOO = "zoo:"


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: it is missing or damaged.
    """
    look_at_checkpoint(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"checkpoint {path} is not a whole safetensors file ({error}); copy it again") from None


def find_weights(source: str) -> Path:
    """A local path, `zoo:NAME/FILE` of what edgeprune ships, or `hub:OWNER/NAME[/FILE]`.

    The hub's files are fetched with huggingface-hub; its cache applies.

    Raises:
        InputError: the zoo has no such file, or not in an installed wheel; the hub can't be reached or does not have it.
    """
    if source.startswith(ZOO):
        path = ROOT / "zoo" / f"{source[len(ZOO) :]}.safetensors"
        if os.path.isfile(path):
            return path
        here = [f"{ZOO}{file.parent.name}/{file.stem}" for file in sorted((ROOT / "zoo").glob("*/*.safetensors"))]
        raise InputError(
            f"weights {source!r} are not here; this installation has {', '.join(here)}. A wheel leaves out what is only "
            "trained from: clone the repository, or give the path of a .safetensors file"
        )
    if not source.startswith(HUB):
        return Path(source)
    from huggingface_hub import hf_hub_download

    owner, _, rest = source[len(HUB) :].partition("/")
    name, _, file = rest.partition("/")
    if not owner or not name:
        raise InputError(f"weights {source!r}: expected hub:OWNER/NAME or hub:OWNER/NAME/FILE")
    try:
        return Path(hf_hub_download(f"{owner}/{name}", file or "model.safetensors"))
    except Exception as error:  # its own, its HTTP library's and the system's share no base but this one
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"weights {source!r} can't be fetched ({type(error).__name__}: {reason}); "
            f"download the .safetensors file and give its path"
        ) from None


def read_config(path: Path) -> dict[str, Any]:
    """`config.json` beside a weight file, as timm writes it; empty where there is none, or it is something else."""
    try:
        content = json.loads((path.parent / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
