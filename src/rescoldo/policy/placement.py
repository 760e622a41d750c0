"""Checks a deployment's placement constraints against this machine: a function whose constraint fails cannot run.

Forms: Kubernetes' node selectors `KEY=VALUE` and Swarm's `KEY==VALUE`, `KEY!=VALUE`. Constraints on other node labels
mean nothing on one machine; they are kept and ignored, so that the same stack file also serves a cluster.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from rescoldo.model.errors import InvalidInput

ARCH_KEYS = frozenset(
    ("kubernetes.io/arch", "beta.kubernetes.io/arch", "node.kubernetes.io/arch", "node.platform.arch")
)
OS_KEYS = frozenset(("kubernetes.io/os", "beta.kubernetes.io/os", "node.kubernetes.io/os", "node.platform.os"))
GO_ARCH = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}  # uname's name to Go's
_CONSTRAINT = re.compile(r"\s*([^\s=!]+)\s*(==|!=|=)\s*(\S+)\s*")


def check_constraints(constraints: Iterable[str], arch: str, system: str) -> None:
    """Raise InvalidInput for the first constraint that this machine does not meet; `arch` and `system` are uname's."""
    here = dict.fromkeys(ARCH_KEYS, _go_arch(arch)) | dict.fromkeys(OS_KEYS, system.lower())
    for constraint in constraints:
        match = _CONSTRAINT.fullmatch(constraint)
        if match is None or match[1] not in here:
            continue
        key, operator, wanted = match.groups()
        is_so = _go_arch(wanted.lower()) == here[key]
        if is_so == (operator == "!="):
            raise InvalidInput(
                f"constraint {constraint[:200]!r} is not met: this machine has {key}={here[key]}; "
                "remove the constraint or deploy on another machine"
            )


def is_known(constraint: str) -> bool:
    """Return whether `check_constraints` compares `constraint` with the machine; it ignores all others."""
    match = _CONSTRAINT.fullmatch(constraint)
    return match is not None and match[1] in ARCH_KEYS | OS_KEYS


def _go_arch(name: str) -> str:
    return GO_ARCH.get(name, name)
