"""What a deployment's kind makes of it: its kind, how its instances start, the policy that follows, its notes.

The kind is the one that the deployment claims, else the one that its bundle holds: with `upstream_url` set, a bundle
with a handler runs as a program. `held` is the kind in the bundle's manifest; empty while nobody has looked, or where
the bundle is gone: then it counts as the default kind.
"""

from __future__ import annotations

from dataclasses import replace

from rescoldo.kinds.protocol import Kind
from rescoldo.kinds.registry import DEFAULT, KINDS, kind_named
from rescoldo.model import function
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import DEFAULT_LIMITS, FunctionPolicy, FunctionSpec
from rescoldo.model.limits import Limits, check_memory
from rescoldo.model.program import Start
from rescoldo.model.scaling import PLATFORM_DEFAULTS, ScalingDefaults, check_starts
from rescoldo.policy import notes


def kind_of_deployment(spec: FunctionSpec, held: str = "") -> Kind:
    """The kind of `spec`."""
    claimed = (kind for kind in KINDS.values() if kind.claims(spec))
    return next(claimed, KINDS.get(held, DEFAULT))


def start_of(spec: FunctionSpec, held: str = "") -> Start:
    """How its instances start. Raises InvalidInput naming the key or variable that is bad."""
    return kind_of_deployment(spec, held).read(spec)


def policy_of(
    spec: FunctionSpec,
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
    *,
    held: str = "",
) -> FunctionPolicy:
    """Read the policy of `spec`; raise InvalidInput naming the label, annotation or variable that is bad.

    `defaults` are the platform's limits and `scaling` its scaling, for what the function does not set.
    """
    return function.policy_of(spec, start_of(spec, held), defaults, scaling)


def check_spec(
    spec: FunctionSpec,
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
    *,
    held: str = "",
) -> FunctionPolicy:
    """Check the whole of a new deployment and return its policy; raise InvalidInput.

    What is stored already is not checked again: stricter rules of a later version must not end the platform.
    """
    function.check_fields(spec)
    policy = policy_of(spec, defaults, scaling, held=held)
    check_starts(policy.scaling, policy.max_replicas)
    check_memory(policy.limits.memory, kind_named(policy.start.kind).least_memory)
    return policy


def settled(policy: FunctionPolicy, spec: FunctionSpec, held: str) -> FunctionPolicy:
    """`policy`, read before its bundle was known, now that it is. Raises InvalidInput."""
    kind = kind_of_deployment(spec, held)
    check_memory(policy.limits.memory, kind.least_memory)
    return replace(policy, start=kind.read(spec))


def meant(spec: FunctionSpec, held: str = "") -> FunctionSpec:
    """As faas-cli and `rescoldo`, which word it differently, both mean it: neither undoes what the other deployed."""
    process = kind_of_deployment(spec, held).own_process(spec.env_process)
    return spec if process == spec.env_process else replace(spec, env_process=process)


def notes_of(spec: FunctionSpec, level: str, held: str = "") -> list[str]:
    """One sentence for each setting of `spec` that has no effect on a platform with the isolation `level`; see
    `notes` in policy/notes.py."""
    kind = kind_of_deployment(spec, held)
    try:
        kind.read(spec)
    except InvalidInput:  # it is refused
        return notes.notes(spec, level, ())
    return notes.notes(spec, level, kind.notes(spec))
