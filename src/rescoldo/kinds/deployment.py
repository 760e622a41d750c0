"""Applies a deployment's kind: how its instances start, its policy and its notes.

A deployment that claims a kind has that kind; any other has the kind of its bundle. With `upstream_url` set, for
example, a bundle with a handler runs as a program. `held` is the kind in the bundle's manifest. It is empty before the
bundle has been read and after the bundle is gone: the default kind applies then.
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
    """Return the kind of `spec`."""
    claimed = (kind for kind in KINDS.values() if kind.claims(spec))
    return next(claimed, KINDS.get(held, DEFAULT))


def start_of(spec: FunctionSpec, held: str = "") -> Start:
    """Return how instances of `spec` start. Raises InvalidInput naming the invalid key or variable."""
    return kind_of_deployment(spec, held).read(spec)


def policy_of(
    spec: FunctionSpec,
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
    *,
    held: str = "",
) -> FunctionPolicy:
    """Read the policy of `spec`. Raises InvalidInput naming the invalid label, annotation or variable.

    `defaults` (limits) and `scaling` are the platform's; they apply where the function sets no value of its own.
    """
    return function.policy_of(spec, start_of(spec, held), defaults, scaling)


def check_spec(
    spec: FunctionSpec,
    defaults: Limits = DEFAULT_LIMITS,
    scaling: ScalingDefaults = PLATFORM_DEFAULTS,
    *,
    held: str = "",
) -> FunctionPolicy:
    """Check the whole of a new deployment and return its policy. Raises InvalidInput.

    Stored deployments are not checked again: stricter rules of a later version must not keep the platform from
    starting.
    """
    function.check_fields(spec)
    policy = policy_of(spec, defaults, scaling, held=held)
    check_starts(policy.scaling, policy.max_replicas)
    check_memory(policy.limits.memory, kind_named(policy.start.kind).least_memory)
    return policy


def meant(spec: FunctionSpec, held: str = "") -> FunctionSpec:
    """Return `spec` without differences in wording between faas-cli and `rescoldo`, so that neither undoes the other's
    deployments."""
    process = kind_of_deployment(spec, held).own_process(spec.env_process)
    return spec if process == spec.env_process else replace(spec, env_process=process)


def notes_of(spec: FunctionSpec, level: str, held: str = "") -> list[str]:
    """Return one sentence for each setting of `spec` without effect at the isolation `level`; see `notes` in
    policy/notes.py."""
    kind = kind_of_deployment(spec, held)
    try:
        kind.read(spec)
    except InvalidInput:  # the deployment will be refused
        return notes.notes(spec, level, ())
    return notes.notes(spec, level, kind.notes(spec))
