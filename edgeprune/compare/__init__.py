"""`edgeprune compare`: token-reduction methods and their controls from one dense checkpoint, at equal training, measured in
one run."""

from edgeprune.compare.plan import load_plan
from edgeprune.compare.run import compare

__all__ = ["compare", "load_plan"]
