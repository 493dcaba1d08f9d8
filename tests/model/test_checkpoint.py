"""Checkpoints: what goes in comes out; what is damaged or of another model is refused with the reason."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from edgeprune.base.errors import InputError, RunError
from edgeprune.model import checkpoint
from edgeprune.model.checkpoint import HEADER, is_checkpoint, load_tensors, save
from edgeprune.model.weights import is_finite
from edgeprune.pruning.selection import select_all
from edgeprune.quantize.linear import quantized_linears
from edgeprune.quantize.loading import load, load_start, make_model, read_card
from tests import models


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "qat.safetensors"
    card = models.card(depth=3, quantized=True)
    card.provenance = {"seed": 7}
    save(path, card, models.model(card).state_dict())
    return path


def copy(saved: Path, folder: Path) -> Path:
    path = folder / "copy.safetensors"
    path.write_bytes(saved.read_bytes())
    return path


def test_round_trip(saved: Path) -> None:
    model, card = load(saved)
    expected = models.model(models.card(depth=3, quantized=True))
    assert card.provenance == {"seed": 7} and card.policy.name == "svit" and not model.training
    assert len(list(quantized_linears(model))) == 12
    for key, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    image_13HW = models.images(1)
    with torch.no_grad():
        assert torch.equal(model(image_13HW).raw, expected(image_13HW).raw)
    assert read_card(saved) == card and is_checkpoint(saved)


def test_a_checkpoint_names_its_preprocess_and_an_older_one_is_letterboxed(saved: Path, tmp_path: Path) -> None:
    path = copy(saved, tmp_path)
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()[HEADER])
    assert header["model"].pop("preprocess") == "letterbox"
    save_file(load_file(path), path, {HEADER: json.dumps(header)})
    assert read_card(path) == read_card(saved)
    header["model"]["preprocess"] = "stretch"
    save_file(load_file(path), path, {HEADER: json.dumps(header)})
    with pytest.raises(InputError, match="model.preprocess: input should be 'letterbox', found 'stretch'"):
        read_card(path)


def test_another_input_size_gives_what_the_model_gives_on_images_of_that_size(saved: Path) -> None:
    own, _ = load(saved)
    wide, card = load(saved, (models.HEIGHT + 16, 2 * models.WIDTH))
    assert (card.model.height, card.model.width) == (models.HEIGHT + 16, 2 * models.WIDTH)
    assert wide.policy.tokens == wide.pos_embed.shape[1] == (models.HEIGHT // 16 + 1) * (models.WIDTH // 8)
    image_13HW = torch.nn.functional.interpolate(models.images(1), (models.HEIGHT + 16, 2 * models.WIDTH))
    with torch.no_grad():
        found, expected = (model(image_13HW, select_all).raw for model in (wide, own))
    torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="both must be multiples of 16"):
        load(saved, (100, models.WIDTH))


def test_others_may_read_it_as_any_file(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "any").touch()
    assert saved.stat().st_mode == (tmp_path / "any").stat().st_mode


def test_half_stores_weights_in_16_bits_and_scales_in_32(saved: Path, tmp_path: Path) -> None:
    model, card = load(saved)
    save(tmp_path / "half.safetensors", card, model.state_dict(), half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < 0.6 * saved.stat().st_size
    again, _ = load(tmp_path / "half.safetensors")
    for (_, ours), (_, theirs) in zip(quantized_linears(model), quantized_linears(again), strict=True):
        assert torch.equal(ours.weight_quantizer.scale, theirs.weight_quantizer.scale)
        assert again.norm.weight.dtype == theirs.weight.dtype == torch.float32
        torch.testing.assert_close(theirs.weight, ours.weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_checkpoint_is_refused(saved: Path, tmp_path: Path, share: float) -> None:
    path = copy(saved, tmp_path)
    os.truncate(path, int(share * path.stat().st_size))
    for read in (load, read_card):
        with pytest.raises(InputError, match=r"copy.safetensors is not a whole safetensors file .*copy it again"):
            read(path)
    assert not is_checkpoint(path)


def test_a_missing_checkpoint_names_what_is_there(saved: Path) -> None:
    with pytest.raises(InputError, match=r"qad.safetensors is not there; that folder has qat.safetensors"):
        load(saved.with_name("qad.safetensors"))
    assert not is_checkpoint(saved.with_name("qad.safetensors"))


def test_bare_weights_are_told_from_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "deit.safetensors"
    save_file({"blocks.0.attn.qkv.weight": torch.zeros(3)}, path)
    assert not is_checkpoint(path)
    with pytest.raises(InputError, match="no edgeprune checkpoint; for bare ViT weights name it as `weights:`"):
        load(path)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{not json", "header is damaged"),
        ("[]", "expected a mapping"),
        ('{"name": "x"}', "copy.safetensors: model: field required"),
        ('{"nam": "x"}', "unknown key 'nam'.*did you mean 'name'"),
    ],
)
def test_a_damaged_header_is_refused(saved: Path, tmp_path: Path, header: str, words: str) -> None:
    path = tmp_path / "copy.safetensors"
    save_file(load_file(saved), path, metadata={HEADER: header})
    with pytest.raises(InputError, match=words):
        load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "key", ["blocks.1.mlp.fc1.weight", "pos_embed", "head.smooth4.1.running_var", "policy.gates.0.fc1.bias"]
)
def test_weights_that_are_no_numbers_are_refused_by_name(saved: Path, tmp_path: Path, key: str, value: float) -> None:
    path, tensors = tmp_path / "copy.safetensors", load_file(saved)
    tensors[key].view(-1)[-1] = value
    save_file(tensors, path, {HEADER: read_card(saved).model_dump_json()})
    with pytest.raises(
        InputError, match=f"copy.safetensors: {key} holds values that are no finite numbers; copy the file"
    ):
        load(path)
    for dtype in (torch.float64, torch.bfloat16, torch.float16, torch.float8_e5m2):
        assert not is_finite(tensors[key].to(dtype)) and is_finite(torch.zeros(2, dtype=dtype))
    assert not is_finite(torch.tensor([1e300], dtype=torch.float64))  # in FP32 it is none
    assert is_finite(torch.zeros(0)) and is_finite(torch.ones(2, dtype=torch.int64))


def test_weights_of_another_kind_are_refused_by_name(saved: Path, tmp_path: Path) -> None:
    path, tensors = tmp_path / "copy.safetensors", load_file(saved)

    def rewrite(key: str, dtype: torch.dtype) -> None:
        save_file(tensors | {key: tensors[key].to(dtype)}, path, {HEADER: read_card(saved).model_dump_json()})

    for dtype in (torch.int8, torch.bool, torch.complex64):
        rewrite("blocks.1.mlp.fc1.weight", dtype)
        with pytest.raises(InputError, match=f"blocks.1.mlp.fc1.weight is of {dtype}, the model expects torch.float32"):
            load(path)
        rewrite("pos_embed", dtype)
        for size in (None, (32, 32)):  # positions are resized before the model is there
            with pytest.raises(InputError, match=f"pos_embed is of {dtype}"):
                load(path, size)


def test_a_name_that_leads_elsewhere_is_none(saved: Path, tmp_path: Path) -> None:
    """`build` names the folder of a bundle by it."""
    path, content = tmp_path / "copy.safetensors", json.loads(read_card(saved).model_dump_json())
    for name in ("../../elsewhere", "/tmp/elsewhere", "..", "", "a\nb"):
        save_file(load_file(saved), path, {HEADER: json.dumps(content | {"name": name})})
        with pytest.raises(InputError, match="copy.safetensors: name: string should match pattern"):
            read_card(path)


def test_a_pipe_is_no_checkpoint_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert not is_checkpoint(tmp_path / "pipe.safetensors")
    for read in (load, read_card):
        with pytest.raises(InputError, match="is a pipe; name a file"):
            read(tmp_path / "pipe.safetensors")


def test_a_header_that_describes_another_model_is_refused(saved: Path, tmp_path: Path) -> None:
    path, tensors = tmp_path / "copy.safetensors", load_file(saved)
    content = json.loads(read_card(saved).model_dump_json())

    def rewrite(**changes: object) -> None:
        save_file(tensors, path, metadata={HEADER: json.dumps(content | changes)})

    rewrite(model=content["model"] | {"depth": 4})
    with pytest.raises(InputError, match="has 3 blocks, its header says 4"):
        load(path)
    rewrite(model=content["model"] | {"height": 256})
    with pytest.raises(InputError, match=r"pos_embed is \(1, .*, its header means \(1, "):
        load(path)
    rewrite(model=content["model"] | {"classes": 7})
    with pytest.raises(InputError, match="its header has 11 class names for 7 classes"):
        load(path)
    fewer = {key: content[key][:7] for key in ("names", "palette")}
    rewrite(model=content["model"] | {"classes": 7}, **fewer)
    with pytest.raises(
        InputError, match=r"head.classify.weight is \(11, 32, 1, 1\), the model expects \(7, 32, 1, 1\)"
    ):
        load(path)
    rewrite(quantized=False)
    with pytest.raises(InputError, match=r"tensors that the model has no place for, blocks.0.*_quantizer"):
        load(path)
    rewrite(policy={"name": "svitt"})
    with pytest.raises(InputError, match="unknown policy 'svitt'"):
        load(path)


def test_a_full_disk_is_a_run_error_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors hides the system's error in a text of its own."""

    def fail(tensors: object, path: Path, metadata: object = None) -> None:
        path.write_text("half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    card = models.card("dense", depth=1)
    with pytest.raises(RunError, match="no space left while writing checkpoint"):
        save(tmp_path / "dense.safetensors", card, models.model(card).state_dict())
    assert list(tmp_path.iterdir()) == []


def test_a_dense_model_starts_a_sparse_quantized_one(tmp_path: Path) -> None:
    dense = models.model(models.card("dense", depth=3), seed=1)
    model = models.model(models.card(depth=3, quantized=True), seed=2)
    gates = {key: value.clone() for key, value in model.policy.state_dict().items()}
    load_tensors(model, dense.state_dict(), "dense", partial=True)
    assert torch.equal(models.block(model, 2).attn.qkv.weight, models.block(dense, 2).attn.qkv.weight)
    assert torch.equal(model.stem.proj.weight, dense.stem.proj.weight)
    assert all(torch.equal(value, gates[key]) for key, value in model.policy.state_dict().items())
    with pytest.raises(InputError, match=r"dense lacks \d+ tensors of the model"):
        load_tensors(model, dense.state_dict(), "dense")


def test_a_start_of_another_shape_is_refused() -> None:
    model = models.model(models.card("dense", depth=3))
    tensors = models.model(models.card("dense", depth=2)).state_dict()
    with pytest.raises(InputError, match=r"there lacks 12 tensors of the model, blocks.2"):
        load_tensors(model, tensors, "there", partial=True)
    tensors = dict(model.state_dict()) | {"pos_embed": torch.zeros(1, 48, 192)}
    with pytest.raises(InputError, match=r"there: pos_embed is \(1, 48, 192\), the model expects \(1, 24, 192\)"):
        load_tensors(model, tensors, "there", partial=True)


def test_a_layer_scale_is_folded_where_the_model_has_none(tmp_path: Path) -> None:
    """Its factors found no place once, and every branch was as many times too large."""
    card = models.card("dense", depth=2)
    scaled_card = card.model_copy(update={"model": card.model.model_copy(update={"layer_scale": 1e-5})})
    scaled = models.model(scaled_card)
    with torch.no_grad():
        for name, parameter in scaled.named_parameters():
            if name.endswith(".gamma"):
                parameter.uniform_(0.1, 2.0)
    save(tmp_path / "scaled.safetensors", scaled_card, scaled.state_dict())
    plain = models.model(card, seed=3)
    assert load_start(plain, tmp_path / "scaled.safetensors", card.names) == []
    with torch.no_grad():
        torch.testing.assert_close(plain(models.images(2)).raw, scaled(models.images(2)).raw, rtol=1e-4, atol=1e-4)
    quantized = scaled_card.model_copy(update={"quantized": True})
    save(tmp_path / "int8.safetensors", quantized, scaled.state_dict())
    with pytest.raises(InputError, match="has a layer scale and ranges of INT8 beside it.*model.layer_scale: 1e-05"):
        load_start(plain, tmp_path / "int8.safetensors", card.names)


def test_with_other_convolutions_the_finer_parts_begin_anew(saved: Path) -> None:
    own, card = load(saved)
    card.model = card.model.model_copy(update={"convolutions": "half"})
    half = make_model(card)
    start = {key: value.clone() for key, value in half.state_dict().items()}
    anew = load_start(half, saved, card.names)
    assert anew == ["has other convolutions, so the head and what it sees of the stem begin anew"]
    kept = {key for key, value in half.state_dict().items() if not torch.equal(value, start[key])}
    assert {key.split(".")[0] for key in kept} >= {"pos_embed", "blocks"} and not any(
        key.startswith("head.") for key in kept
    )
    assert half.head.reduce.out_features * 2 == own.head.reduce.out_features


def test_a_start_may_have_more_blocks_other_gates_and_another_size(saved: Path) -> None:
    """What `compare` begins its smaller dense models with."""
    own, _ = load(saved)
    card = models.card("dense", depth=2)
    card.model = card.model.model_copy(update={"height": 48, "width": 64})
    small = make_model(card)
    load_start(small, saved, models.STREET.names)
    assert torch.equal(models.block(small, 1).mlp.fc1.weight, models.block(own, 1).mlp.fc1.weight)
    resized, _ = load(saved, (48, 64))
    assert torch.equal(small.pos_embed, resized.pos_embed) and small.pos_embed.shape == (1, 12, 192)
