"""Token-reduction policies: one file each, one row in POLICIES."""

from collections.abc import Callable
from typing import Any

from edgeprune.base.errors import choose
from edgeprune.base.reading import Strict, parse
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.earlier import MEANT
from edgeprune.pruning.methods.algm import ALGM, ALGMOptions
from edgeprune.pruning.methods.ats import ATS, ATSOptions
from edgeprune.pruning.methods.combination import combined
from edgeprune.pruning.methods.cts import CTS, CTSOptions
from edgeprune.pruning.methods.cts_svit import CTSSViT, CTSSViTOptions
from edgeprune.pruning.methods.decisions import CombinedOptions
from edgeprune.pruning.methods.dtop import DToP, DToPOptions
from edgeprune.pruning.methods.dynamicvit import DynamicViT, DynamicViTOptions
from edgeprune.pruning.methods.dynaprune import DynaPrune, DynaPruneOptions
from edgeprune.pruning.methods.evit import EViT, EViTOptions
from edgeprune.pruning.methods.evovit import EvoViT, EvoViTOptions
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.step import STEP, STEPOptions
from edgeprune.pruning.methods.svit import SViT, SViTOptions
from edgeprune.pruning.methods.tome import ToMe, ToMeOptions
from edgeprune.pruning.methods.uniform import Uniform


class NoOptions(Strict):
    """The dense policy has nothing to set."""


def _dense(shape: Shape, options: Strict) -> TokenPolicy:
    return TokenPolicy(shape)


# name -> (its options, (shape of the model, options) -> policy)
POLICIES: dict[str, tuple[type[Strict], Callable[[Shape, Any], TokenPolicy]]] = {
    "dense": (NoOptions, _dense),
    "svit": (SViTOptions, SViT),
    "random": (SViTOptions, Random),
    "uniform": (SViTOptions, Uniform),
    "dynaprune": (DynaPruneOptions, DynaPrune),
    "dynamicvit": (DynamicViTOptions, DynamicViT),
    "evit": (EViTOptions, EViT),
    "evovit": (EvoViTOptions, EvoViT),
    "ats": (ATSOptions, ATS),
    "tome": (ToMeOptions, ToMe),
    "algm": (ALGMOptions, ALGM),
    "cts": (CTSOptions, CTS),
    "dtop": (DToPOptions, DToP),
    "step": (STEPOptions, STEP),
    "cts-svit": (CTSSViTOptions, CTSSViT),
    "combined": (CombinedOptions, combined),
}


def make_policy(spec: PolicySpec, shape: Shape) -> TokenPolicy:
    """The policy that a recipe or a checkpoint names.

    Raises:
        InputError: unknown name or option.
    """
    options, make = choose(POLICIES, spec.name, "policy")
    return make(shape, parse(options, spec.options, f"policy {spec.name}"))


def settle(spec: PolicySpec, shape: Shape) -> PolicySpec:
    """The spec with every option written out: what was left open as the policy chose it for the model, the rest by default.
    Neither another input size nor a later version with other defaults then changes what a checkpoint means.

    Raises:
        InputError: see `make_policy`.
    """
    kind, make = choose(POLICIES, spec.name, "policy")
    options = parse(kind, spec.options, f"policy {spec.name}")
    return spec.model_copy(update={"options": options.model_dump(mode="json") | make(shape, options).chosen})


def as_trained(spec: PolicySpec, shape: Shape) -> PolicySpec:
    """The spec of a checkpoint of an earlier version, with what has another default now as it was (see `earlier`).

    Raises:
        InputError: an option that no version knows.
    """
    if spec.name not in MEANT:
        return spec
    kind, _ = POLICIES[spec.name]
    meant = MEANT[spec.name](parse(kind, spec.options, f"policy {spec.name}"), shape)
    return spec.model_copy(update={"options": spec.options | meant})
