"""A device with a fake TensorRT, for these tests."""

from tests.engines.jetson import jetson

__all__ = ["jetson"]
