"""What the isolation levels do not protect, in words for users."""

from __future__ import annotations

from collections.abc import Mapping

UNPRIVILEGED = "unprivileged"  # the level


def not_protected(isolation: Mapping[str, str]) -> str:
    """What functions of the level unprivileged share, by `isolation` of a status."""
    memory = "memory polled" if "polled" in isolation.get("limits", "") else "no limit of memory"
    return f"shares its user with all functions; {memory}, no limit of cpu (docs/security.md)"
