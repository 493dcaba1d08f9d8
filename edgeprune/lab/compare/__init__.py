"""`edgeprune compare`: token-reduction methods and their controls from one dense checkpoint, at equal training, measured in
one run."""

from edgeprune.lab.compare.plan import load_plan
from edgeprune.lab.compare.run import compare

__all__ = ["compare", "load_plan"]
