"""A device with a fake TensorRT, for these tests, and a bundle whose answers are known."""

import pytest

from edgeprune.bundle import Bundle
from tests import bundles
from tests.runtime.engines.jetson import jetson, thor

__all__ = ["jetson", "thor"]


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return bundles.write_bundle(tmp_path_factory.mktemp("engines") / "tiny")
