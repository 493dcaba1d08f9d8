"""Training. `edgeprune.train` is this package and, called, what `edgeprune.train.finetune.train` does:

edgeprune.train("my-set", "hub:timm/vit_small_patch14_dinov2.lvd142m")
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A package and a function go by one name; torch is imported when it is called."""

    def __call__(self, *given: Any, **named: Any) -> Any:
        from edgeprune.train.finetune import train

        return train(*given, **named)


sys.modules[__name__].__class__ = _Callable
