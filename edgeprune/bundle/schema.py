"""The schema of a manifest: which keys it may have, so that an older runtime refuses what it does not know."""

from collections.abc import Iterable, Sequence

from edgeprune.bundle.precisions import PRECISIONS

# 2: one_tail, which no later version writes or reads; 3: buckets.most of the target; 4: preprocess; 5: of the target what a
# device needs, without `accuracy` and `lint`; the task, which no manifest before names; 6: region, of a bundle that has one;
# 7: precision `int8-mlp`, likewise; 8: buckets for budgets, 9: memory between frames, 10: its groups of tokens, likewise. A
# manifest without these five has the oldest schema that can say it, for an older runtime to read (`schema_of`)
SCHEMA, SCHEMA_OF_REGIONS, SCHEMA_OF_WHOLE_FRAMES = 10, 6, 5
SCHEMA_OF_BUDGETS, SCHEMA_OF_MEMORY, SCHEMA_OF_GROUPS = 8, 9, 10


def schema_of(
    region: Sequence[str] | None, precisions: Iterable[str], for_budgets: bool = False, groups: int | None = None
) -> int:
    """The schema of a manifest with this region, these precisions, and buckets for budgets or none: the oldest that can say it.

    Args:
        groups: of the tokens of its memory; None: it has none.
    """
    oldest = SCHEMA_OF_WHOLE_FRAMES if region is None else SCHEMA_OF_REGIONS
    oldest = SCHEMA_OF_BUDGETS if for_budgets else oldest
    if groups is not None:
        oldest = SCHEMA_OF_MEMORY if groups == 1 else SCHEMA_OF_GROUPS
    return max([oldest, *(PRECISIONS[each].schema for each in precisions)])
