"""A bundle to study: the one that tests of the export build."""

from tests.export.conftest import cpu, sources

__all__ = ["cpu", "sources"]
