"""What decoding costs: labels are compared."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from edgeprune.base.errors import InputError
from edgeprune.lab.decoding import main
from tests import bundles


def test_a_bundle_of_things_is_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    bundles.write_bundle(tmp_path / "things", task="instance")
    with pytest.raises(InputError, match="is of task instance, and labels are compared here"):
        CliRunner().invoke(main, [str(tmp_path / "things"), "nowhere.mp4"], catch_exceptions=False)
