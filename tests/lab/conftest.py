"""A bundle to study: the one that tests of the export build."""

from tests.export.conftest import cpu, inputs

__all__ = ["cpu", "inputs"]
