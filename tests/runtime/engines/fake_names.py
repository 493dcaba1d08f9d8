"""What the fake of TensorRT is made of: names and numbers of the real module, and how its bindings take arguments."""

import enum
from typing import Any

import numpy as np

TYPES = {
    "tensor(float)": ("FLOAT", np.float32),
    "tensor(float16)": ("HALF", np.float16),
    "tensor(int32)": ("INT32", np.int32),
    "tensor(int64)": ("INT64", np.int64),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(int8)": ("INT8", np.int8),
    "tensor(bool)": ("BOOL", np.bool_),
}
DataType = enum.Enum("DataType", [name for name, _ in TYPES.values()])  # type: ignore[misc]
# tensorrt.BuilderFlag of 10.3.0 and of 11.4.0 (those that matter here)
FLAGS_10 = {
    "FP16": 0,
    "INT8": 1,
    "REFIT": 4,
    "TF32": 6,
    "OBEY_PRECISION_CONSTRAINTS": 9,
    "PREFER_PRECISION_CONSTRAINTS": 10,
}
FLAGS_11 = {"REFIT": 4, "TF32": 6}
CREATION_10 = {"EXPLICIT_BATCH": 0, "STRONGLY_TYPED": 1}
CREATION_11 = {"STRONGLY_TYPED": 0, "PREFER_JIT_PYTHON_PLUGINS": 1, "PREFER_AOT_PYTHON_PLUGINS": 2}


class Severity(enum.IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class TensorIOMode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class ExecutionContextAllocationStrategy(enum.Enum):
    STATIC = 0
    ON_PROFILE_CHANGE = 1
    USER_MANAGED = 2


class MemoryPoolType(enum.Enum):
    WORKSPACE = 0


class _Base:
    _ready = False

    def __init__(self) -> None:
        self._ready = True


class ILogger(_Base):
    Severity = Severity


class Logger(ILogger):
    ERROR = Severity.ERROR

    def __init__(self, least: Any = Severity.WARNING):
        super().__init__()

    def log(self, severity: Any, message: str) -> None:
        pass


class IProgressMonitor(_Base):
    pass


def typed(value: Any, kind: type, what: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise TypeError(f"incompatible function arguments: {what} is {type(value).__name__}, not {kind.__name__}")
    return value


def logger_of(logger: Any) -> Any:
    typed(logger, ILogger, "logger")
    if not logger._ready:
        raise TypeError("tensorrt.ILogger.__init__() must be called when overriding __init__")
    return logger
