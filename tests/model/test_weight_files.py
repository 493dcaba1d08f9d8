"""Files of weights, the hub's and the zoo's: what is not there or not whole is one line with a way out."""

import json
import os
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
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
    beside = ("config.json", "preprocessor_config.json")
    assert asked == [
        *(("timm/deit_tiny", name) for name in ("model.safetensors", *beside)),
        *(("timm/deit_tiny", f"folder/{name}") for name in ("other.safetensors", *beside)),
    ]


def write_shards(folder: Path) -> None:
    """Two files of a ViT's tensors and their index."""
    tensors = list(vit().items())
    parts = {f"model-0000{part + 1}-of-00002.safetensors": dict(tensors[part::2]) for part in range(2)}
    for name, part in parts.items():
        save_file(part, folder / name)
    index = {"metadata": {}, "weight_map": {key: name for name, part in parts.items() for key in part}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_a_hub_id_of_shards_is_fetched_whole_with_what_stands_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    write_shards(tmp_path)

    def download(repo: str, file: str) -> str:
        asked.append(file)
        if not (tmp_path / file).is_file():
            raise EntryNotFoundError(f"404: no {file}")
        return str(tmp_path / file)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    path = find_weights("hub:facebook/dinov2-giant")
    assert load_timm(fresh(), read_safetensors(path)).missing == []
    shards = [f"model-0000{part}-of-00002.safetensors" for part in (1, 2)]
    index = ["model.safetensors", "model.safetensors.index.json"]
    assert asked == [*index, *shards, "config.json", "preprocessor_config.json"]


def test_a_folder_holds_one_file_or_an_index_of_shards(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the folder has neither model.safetensors nor model.safetensors.index.json"):
        find_weights(str(tmp_path))
    write_shards(tmp_path)
    found = read_safetensors(find_weights(str(tmp_path)))
    assert set(found) == set(vit()) and all(torch.equal(found[key], value) for key, value in vit().items())
    save_file({"a": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert set(read_safetensors(find_weights(str(tmp_path)))) == {"a"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "index of shards"),
        ("[]", "names no shards"),
        ('{"weight_map": {}}', "names no shards"),
        ('{"weight_map": {"a": "../model.safetensors"}}', "names no shards"),
        ('{"weight_map": {"a": 3}}', "names no shards"),
        ('{"weight_map": {"a": "model-00001-of-00001.safetensors"}}', "model-00001-of-00001.safetensors is not there"),
    ],
)
def test_an_index_that_leads_nowhere_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(InputError, match=said) as found:
        read_safetensors(find_weights(str(tmp_path)))
    assert "\n" not in str(found.value)


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
    asked: list[str] = []

    def fail(repo: str, file: str) -> str:
        asked.append(file)
        raise error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
    with pytest.raises(InputError, match=r"hub:timm/deit_tiny' can't be fetched.*give its path") as found:
        find_weights("hub:timm/deit_tiny")
    assert "\n" not in str(found.value) and asked == ["model.safetensors"]


@pytest.mark.parametrize("source", ["hub:", "hub:timm", "hub:/deit"])
def test_a_hub_id_without_owner_or_name_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="expected hub:OWNER/NAME"):
        find_weights(source)


def test_what_the_zoo_does_not_hold_is_one_line_with_what_it_does() -> None:
    assert find_weights("zoo:street-tiny/qat").is_file()
    with pytest.raises(
        InputError, match=r"weights 'zoo:street-tiny/qta' is not here.*zoo:street-tiny/qat.*clone"
    ) as found:
        find_weights("zoo:street-tiny/qta")
    assert "\n" not in str(found.value)
