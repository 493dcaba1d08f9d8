"""TensorRT's log: the one place where it says why something failed.

TensorRT keeps one logger per process: of a second one it takes no notice while a builder or a runtime of the first is alive
(NvInferRuntime.h, `createInferRuntime`; its own warning, "The logger passed into createInferRuntime differs from one already
provided"). So there is one here, for builders, parsers and runtimes alike, and whoever asks it for a reason first says when
to begin to listen.
"""

from typing import Any

from edgeprune.base.errors import RunError
from edgeprune.runtime.engines.memory import lacks_memory

KEPT = 32  # messages: of one failure TensorRT logs a few, the first of them names the cause
NO_REASON = "no reason given; another library of this process may have TensorRT's log"


class Log:
    """The logger of this process. `logger` goes to the library.

    Args:
        trt: the `tensorrt` module.
    """

    def __init__(self, trt: Any):
        self._said: list[str] = []
        said = self._said

        class Logger(trt.ILogger):  # type: ignore[name-defined,misc]
            def __init__(self) -> None:
                trt.ILogger.__init__(self)

            def log(self, severity: Any, message: str) -> None:
                if severity in (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR) and len(said) < KEPT:
                    said.append(" ".join(message.split()))

        self.logger = Logger()

    def listen(self) -> None:
        """Forgets what was said before: what follows is about what is done now."""
        self._said.clear()

    @property
    def reason(self) -> str:
        """Why what was done since `listen` failed: the first error, which names the cause; later ones follow from it."""
        return self._said[0][:300] if self._said else NO_REASON

    @property
    def lacks_memory(self) -> bool:
        """Whether memory ran out since `listen`."""
        return any(map(lacks_memory, self._said))


def start(kind: Any, log: Log) -> Any:
    """A `Builder` or `Runtime`.

    Raises:
        RunError: the library can't start here; it then gives no object, which the bindings answer with a TypeError.
    """
    log.listen()
    try:
        return kind(log.logger)
    except TypeError as error:
        raise RunError(
            f"TensorRT can't start ({log.reason}); is the driver of this GPU the one that it was made for? "
            "`edgeprune doctor` says what is here"
        ) from error
