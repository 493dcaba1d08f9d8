"""Files of weights, the hub's and the zoo's: what is not there or not whole is one line with a way out."""

import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors.torch import save_file

from edgeprune.base.errors import InputError
from edgeprune.model.weight_files import find_weights, read_safetensors
from edgeprune.model.weights import load_timm
from tests.model.vits import fresh, vit


def test_a_missing_file_names_those_that_are_there(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "dense.safetensors")
    with pytest.raises(InputError, match=r"dens.safetensors is not there; that folder has dense.safetensors"):
        read_safetensors(tmp_path / "dens.safetensors")
    with pytest.raises(InputError, match="is not there; give a .safetensors file"):
        read_safetensors(tmp_path / "nowhere" / "dens.safetensors")


@pytest.mark.parametrize("size", [0, 4, 100, 5000])
def test_a_truncated_file_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "vit.safetensors"
    save_file(vit(), path)
    os.truncate(path, size)
    with pytest.raises(InputError, match="not a whole safetensors file"):
        read_safetensors(path)


def test_a_hub_id_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repo: str, file: str) -> str:
        asked.append((repo, file))
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    save_file(vit(), tmp_path / "model.safetensors")
    assert load_timm(fresh(), read_safetensors(find_weights("hub:timm/deit_tiny"))).missing == []
    find_weights("hub:timm/deit_tiny/folder/other.safetensors")
    assert asked == [("timm/deit_tiny", "model.safetensors"), ("timm/deit_tiny", "folder/other.safetensors")]


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("no network and no cache"),
        HFValidationError("bad name"),
        Exception("an HTTP library's own: timed out"),
        OSError("no route"),
    ],
)
def test_a_hub_that_fails_is_one_line_with_a_way_out(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(repo: str, file: str) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"hub:timm/deit_tiny' can't be fetched.*give its path") as found:
        find_weights("hub:timm/deit_tiny")
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("source", ["hub:", "hub:timm", "hub:/deit"])
def test_a_hub_id_without_owner_or_name_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="expected hub:OWNER/NAME"):
        find_weights(source)


def test_what_the_zoo_does_not_hold_is_one_line_with_what_it_does() -> None:
    assert find_weights("zoo:street-tiny/qat").is_file()
    with pytest.raises(InputError, match=r"'zoo:street-tiny/qta' are not here.*zoo:street-tiny/qat.*clone") as found:
        find_weights("zoo:street-tiny/qta")
    assert "\n" not in str(found.value)
