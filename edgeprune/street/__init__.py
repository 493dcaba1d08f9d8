"""The synthetic street: road scenes with exact labels in CamVid's eleven classes, drawn in numpy alone.

The renderer makes its tables when it is imported, 0.1 s that a device with a camera need not spend: so at first use.
"""

from typing import TYPE_CHECKING, Any

from edgeprune.street.classes import CLASSES, IGNORE, PALETTE

if TYPE_CHECKING:
    from edgeprune.street.street import Street, scene

__all__ = ["CLASSES", "IGNORE", "PALETTE", "Street", "scene"]


def __getattr__(name: str) -> Any:
    if name not in ("Street", "scene"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from edgeprune.street import street

    return getattr(street, name)
