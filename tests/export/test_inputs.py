"""What a build is made from: the checkpoint, what lies beside it, frames for parity."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from edgeprune.base.errors import InputError
from edgeprune.base.reading import shipped as shipped_folder
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.inputs import PARITY_FRAMES, BuildInputs, calibration_of, find_inputs, frames_for_parity
from edgeprune.model.card import read_header
from edgeprune.model.checkpoint import save
from edgeprune.model.weight_files import read_safetensors, weights_id
from edgeprune.quantize.calib import read_calib
from edgeprune.quantize.calibrate import write_calib
from edgeprune.quantize.loading import load
from tests import models

SHIPPED, ZOO = shipped_folder("calib"), shipped_folder("zoo")


def test_parity_frames_are_the_calibrations_or_scenes_of_the_street(inputs: BuildInputs, tmp_path: Path) -> None:
    assert inputs.calib is not None
    images, where = frames_for_parity(inputs.calib, Preprocess(64, 96))
    assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where.endswith("train")
    assert np.array_equal(images[3], models.scene(3)[0])
    elsewhere = [
        inputs.calib.model_copy(update={"data": str(tmp_path / "gone.yaml")}),
        inputs.calib.model_copy(update={"split": "val"}),  # has 4 frames
        None,
    ]
    for calib in elsewhere:
        images, where = frames_for_parity(calib, Preprocess(64, 96))
        assert images.shape == (PARITY_FRAMES, 64, 96, 3) and where == "the synthetic street"
        assert len({image.tobytes() for image in images}) == PARITY_FRAMES


def test_a_reference_beside_the_checkpoint_is_found(inputs: BuildInputs, tmp_path: Path) -> None:
    for name in ("qat", "reference"):
        (tmp_path / f"{name}.safetensors").write_bytes(inputs.checkpoint.read_bytes())
    assert find_inputs(tmp_path / "qat.safetensors", None, None).reference == tmp_path / "reference.safetensors"


def test_sources_that_are_not_there_or_damaged_are_refused(inputs: BuildInputs, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="checkpoint .*gone.safetensors is not there"):
        find_inputs(tmp_path / "gone.safetensors", None, None)
    with pytest.raises(InputError, match="calibration .*gone.yaml is not there"):
        find_inputs(inputs.checkpoint, tmp_path / "gone.yaml", None)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(inputs.checkpoint.read_bytes()[:10_000])
    with pytest.raises(InputError, match="cut.safetensors is not a whole safetensors file"):
        find_inputs(cut, None, None)


def altered(checkpoint: Path, path: Path) -> Path:
    """The same model with one weight another."""
    card, _ = read_header(checkpoint)
    tensors = read_safetensors(checkpoint)
    name = next(name for name, value in tensors.items() if value.is_floating_point() and value.ndim)
    tensors[name].view(-1)[0] += 1.0
    save(path, card, tensors)
    return path


def test_a_calibration_of_other_weights_is_not_taken(inputs: BuildInputs, tmp_path: Path) -> None:
    """Its thresholds are quantiles of the scores of those weights; of others they would choose any tokens, and parity, which
    compares two graphs of one model, would not see it."""
    other = altered(inputs.checkpoint, tmp_path / "other.safetensors")
    mine = inputs.checkpoint.with_name(f"calib-{inputs.checkpoint.stem}.yaml")
    assert calibration_of(inputs.checkpoint) == read_calib(mine) == calibration_of(inputs.checkpoint, mine)
    with pytest.raises(
        InputError, match=r"calib-qat.yaml is of other weights than .*other.safetensors; measure one: edgep"
    ):
        calibration_of(other, mine)
    (tmp_path / "calib-other.yaml").write_bytes(mine.read_bytes())
    with pytest.raises(InputError, match="calib-other.yaml is of other weights"):
        find_inputs(other, None, None)
    before = read_calib(mine).model_copy(update={"weights": None})
    write_calib(tmp_path / "calib-other.yaml", before)
    assert calibration_of(other) == before  # an earlier version did not say


def test_the_shipped_calibration_of_a_name_is_that_of_the_zoos_weights(tmp_path: Path) -> None:
    shipped = ZOO / "street-tiny" / "qat.safetensors"
    found = calibration_of(shipped)
    assert found is not None and found.model == "street-tiny"
    shutil.copy(shipped, tmp_path / "qat.safetensors")
    assert calibration_of(tmp_path / "qat.safetensors") == found
    assert calibration_of(altered(shipped, tmp_path / "trained-again.safetensors")) is None


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_calibration_says_of_which_weights_it_is(path: Path) -> None:
    weights = read_calib(path).weights
    assert weights in {weights_id(read_safetensors(each)) for each in ZOO.glob("*/*.safetensors")}


def test_weights_are_the_same_in_half_precision_and_as_loaded(tmp_path: Path) -> None:
    model = models.model()
    save(tmp_path / "half.safetensors", models.card(), model.state_dict(), half=True)
    loaded, _ = load(tmp_path / "half.safetensors")
    tensors = read_safetensors(tmp_path / "half.safetensors")
    assert any(value.dtype == torch.float16 for value in tensors.values())
    assert weights_id(loaded.state_dict()) == weights_id(tensors) != weights_id(model.state_dict())
