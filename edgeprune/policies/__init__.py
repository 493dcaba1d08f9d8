"""Token-reduction policies: one file each, one row in POLICIES."""

from collections.abc import Callable
from typing import Any

from edgeprune.config import PolicySpec, Strict, parse
from edgeprune.errors import choose
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.policies.random import Random
from edgeprune.policies.svit import SViT, SViTOptions


class NoOptions(Strict):
    """The dense policy has nothing to set."""


def _dense(shape: Shape, options: Strict) -> TokenPolicy:
    return TokenPolicy(shape)


# name -> (its options, (shape of the model, options) -> policy)
POLICIES: dict[str, tuple[type[Strict], Callable[[Shape, Any], TokenPolicy]]] = {
    "dense": (NoOptions, _dense),
    "svit": (SViTOptions, SViT),
    "random": (SViTOptions, Random),
}


def make_policy(spec: PolicySpec, shape: Shape) -> TokenPolicy:
    """The policy that a recipe or a checkpoint names.

    Raises:
        InputError: unknown name or option.
    """
    options, make = choose(POLICIES, spec.name, "policy")
    return make(shape, parse(options, spec.options, f"policy {spec.name}"))
