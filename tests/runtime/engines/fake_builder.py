"""What the fake of TensorRT builds from: the parser and its network, the builder's configuration, the timing cache.

The rules it holds to stand in `fake_tensorrt`.
"""

from pathlib import Path
from typing import Any

import onnx

from edgeprune.export.lint.parser import refusals
from tests.runtime.engines.fake_names import DataType, MemoryPoolType, logger_of, typed
from tests.runtime.engines.fake_network import Layer, layers_of


class Network:
    def __init__(self, strongly_typed: bool, fail: Any):
        self.strongly_typed, self._fail = strongly_typed, fail
        self.model: onnx.ModelProto | None = None
        self._layers: list[Layer] | None = None

    @property
    def layers(self) -> list[Layer]:
        if self._layers is None:
            self._layers = layers_of(self.model, DataType, self.strongly_typed, self._fail) if self.model else []
        return self._layers

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[typed(index, int, "index")]


class ParserError:
    def __init__(self, reason: str):
        self._reason = reason

    def desc(self) -> str:
        return self._reason


class OnnxParser:
    version: tuple[int, int]

    def __init__(self, network: Network, logger: Any):
        self._network, self._errors = network, []  # type: ignore[var-annotated]
        logger_of(logger)

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> ParserError:
        return ParserError(self._errors[index])

    def parse_from_file(self, path: str) -> bool:
        """Finds external weights beside the file."""
        try:
            model = onnx.load(typed(path, str, "path"))
        except Exception as error:
            self._errors.append(f"cannot parse {Path(path).name}: {type(error).__name__}")
            return False
        self._errors += refusals(model, self.version)
        self._network.model = model
        return not self._errors


class TimingCache:
    def __init__(self, version: str, content: bytes):
        self.version = content.decode().split("|")[0] if content else version
        self.entries = content.decode().split("|")[1:] if content else []

    def serialize(self) -> memoryview:
        return memoryview("|".join([self.version, *self.entries]).encode())


class Config:
    def __init__(self, version: str, flags: Any):
        self._version, self._flag = version, flags
        self.flags = {"TF32"}
        self.pools: dict[MemoryPoolType, int] = {}
        self.progress_monitor: Any = None
        self._cache: TimingCache | None = None

    def set_flag(self, flag: Any) -> None:
        self.flags.add(typed(flag, self._flag, "flag").name)

    def clear_flag(self, flag: Any) -> None:
        self.flags.discard(typed(flag, self._flag, "flag").name)

    def set_memory_pool_limit(self, pool: MemoryPoolType, pool_size: int) -> None:
        self.pools[typed(pool, MemoryPoolType, "pool")] = typed(pool_size, int, "pool_size")

    def create_timing_cache(self, serialized_timing_cache: bytes) -> TimingCache:
        return TimingCache(self._version, typed(serialized_timing_cache, bytes, "serialized_timing_cache"))

    def set_timing_cache(self, cache: TimingCache, ignore_mismatch: bool) -> bool:
        if cache.version != self._version and not ignore_mismatch:
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> TimingCache | None:
        return self._cache
