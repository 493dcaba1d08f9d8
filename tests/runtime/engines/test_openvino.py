"""What OpenVINO leaves in the process that it is in."""

import ctypes
import sys
from pathlib import Path

import pytest

from edgeprune.bundle import Bundle
from edgeprune.runtime.engines import ENGINES

pytest.importorskip("openvino", reason="needs openvino: pip install openvino")


class Stack(ctypes.Structure):
    """`stack_t` of sigaltstack(2)."""

    _fields_ = [("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def signal_stack() -> tuple[int, int] | None:
    """Begin and size of the stack that this thread takes its signals on; None: its own."""
    stack = Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(stack)) == 0
    return (stack.address, stack.size) if stack.address and not stack.flags & 2 else None  # SS_DISABLE


def is_mapped(begin: int, size: int) -> bool:
    """As a whole, in one or in several pieces."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, last = (int(each, 16) for each in line.split()[0].split("-"))
        if first <= begin < last:
            return last >= begin + size or is_mapped(last, begin + size - last)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_signals_have_a_stack_after_it_is_closed(bundle: Bundle) -> None:
    """Whatever order graphs are closed in; else the next signal is written over whatever lies where the stack was."""
    for _ in range(2):
        session = ENGINES["openvino"].open(bundle, "fp32")
        dense = ENGINES["openvino"].open_graph(bundle.path("graphs/dense.onnx"))
        session.close()
        dense.close()
        stack = signal_stack()
        assert stack is None or is_mapped(*stack)
