"""Token-reduction policies: a file or a preset each, one row in POLICIES."""

from collections.abc import Callable
from typing import Any

from edgeprune.base.errors import choose
from edgeprune.base.reading import Strict, parse
from edgeprune.model.policy import Shape, TokenPolicy
from edgeprune.model.spec import PolicySpec
from edgeprune.pruning.earlier import MEANT
from edgeprune.pruning.methods.algm import ALGM, ALGMOptions
from edgeprune.pruning.methods.ats import ATS, ATSOptions
from edgeprune.pruning.methods.combination import Combination
from edgeprune.pruning.methods.dynamicvit import DynamicViT, DynamicViTOptions
from edgeprune.pruning.methods.dynaprune import DynaPrune, DynaPruneOptions
from edgeprune.pruning.methods.evit import EViT, EViTOptions
from edgeprune.pruning.methods.evovit import EvoViT, EvoViTOptions
from edgeprune.pruning.methods.presets import PRESETS
from edgeprune.pruning.methods.random import Random
from edgeprune.pruning.methods.svit import SViT, SViTOptions
from edgeprune.pruning.methods.tome import ToMe, ToMeOptions
from edgeprune.pruning.methods.uniform import Uniform


class NoOptions(Strict):
    """The dense policy has nothing to set."""


# the options of a policy, (shape of the model, options) -> policy
Row = tuple[type[Strict], Callable[[Shape, Any], TokenPolicy]]


def _preset(name: str) -> Row:
    preset = PRESETS[name]
    return preset.options, lambda shape, options: Combination(shape, preset.parts(shape.grid, options))


POLICIES: dict[str, Row] = {
    "dense": (NoOptions, lambda shape, options: TokenPolicy(shape)),
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
    "cts": _preset("cts"),
    "dtop": _preset("dtop"),
    "step": _preset("step"),
    "cts-svit": _preset("cts-svit"),
    "combined": _preset("combined"),
}


def make_policy(spec: PolicySpec, shape: Shape) -> TokenPolicy:
    """The policy that a recipe or a checkpoint names.

    Raises:
        InputError: unknown name or option, or one that does not fit the model.
    """
    _, make = choose(POLICIES, spec.name, "policy")
    return make(shape, _options(spec))


def chosen_options(spec: PolicySpec, shape: Shape) -> dict[str, Any]:
    """What the policy chooses for the model of the options that were left open.

    Raises:
        InputError: unknown name or option.
    """
    options = _options(spec)
    return PRESETS[spec.name].chosen(shape, options) if spec.name in PRESETS else {}


def settle(spec: PolicySpec, shape: Shape) -> PolicySpec:
    """The spec with every option written out: what was left open as the policy chooses it for the model, the rest by default.
    Neither another input size nor a later version with other defaults then changes what a checkpoint means.

    Raises:
        InputError: unknown name or option.
    """
    written = _options(spec).model_dump(mode="json")
    return spec.model_copy(update={"options": written | chosen_options(spec, shape)})


def as_trained(spec: PolicySpec, shape: Shape) -> PolicySpec:
    """The spec of a checkpoint of an earlier version, with what has another default now as it was (`earlier`).

    Raises:
        InputError: an option that no version knows.
    """
    if spec.name not in MEANT:
        return spec
    return spec.model_copy(update={"options": spec.options | MEANT[spec.name](_options(spec), shape)})


def _options(spec: PolicySpec) -> Strict:
    options, _ = choose(POLICIES, spec.name, "policy")
    return parse(options, spec.options, f"policy {spec.name}")
