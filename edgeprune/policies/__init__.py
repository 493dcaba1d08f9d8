"""Token-reduction policies: one file each, one row in POLICIES."""

from collections.abc import Callable
from typing import Any

from edgeprune.config import PolicySpec, Strict, parse
from edgeprune.errors import choose
from edgeprune.model.policy import TokenPolicy
from edgeprune.policies.random import Random
from edgeprune.policies.svit import SViT, SViTOptions


class NoOptions(Strict):
    """The dense policy has nothing to set."""


def _dense(width: int, depth: int, tokens: int, options: Strict) -> TokenPolicy:
    return TokenPolicy(width, depth, tokens)


# name -> (its options, (width, depth, tokens, options) -> policy)
POLICIES: dict[str, tuple[type[Strict], Callable[[int, int, int, Any], TokenPolicy]]] = {
    "dense": (NoOptions, _dense),
    "svit": (SViTOptions, SViT),
    "random": (SViTOptions, Random),
}


def make_policy(spec: PolicySpec, width: int, depth: int, tokens: int) -> TokenPolicy:
    """The policy that a recipe or a checkpoint names.

    Raises:
        InputError: unknown name or option.
    """
    options, make = choose(POLICIES, spec.name, "policy")
    return make(width, depth, tokens, parse(options, spec.options, f"policy {spec.name}"))
