"""What a build is made from: the checkpoint, what lies beside it, frames for parity."""

from pathlib import Path

import numpy as np
import pytest

from edgeprune.base.errors import InputError
from edgeprune.data.preprocess import Preprocess
from edgeprune.export.inputs import PARITY_FRAMES, BuildInputs, find_inputs, frames_for_parity
from tests import models


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
