"""How a function stands: what a user sees of its life, and what of it outlives a controller."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """What `rescoldo list` and `describe` call a function's state; its numbers of replicas agree with it."""

    DEPLOYING = "deploying"  # its first start is under way or has its turn soon
    STARTING = "starting"  # it is being woken
    READY = "ready"  # an instance answers
    ASLEEP = "asleep"  # the next call wakes it
    FAILING = "failing"  # its last start failed
    PAUSED = "paused"  # it takes no calls


@dataclass(frozen=True, slots=True)
class Standing:
    """What is kept of a function beside its deployment. Of most functions nothing is: it is PLAIN."""

    paused: bool = False  # calls are refused, and nothing is started, until it is resumed
    untried: bool = False  # its current revision has not started yet, and nothing protects it
    failure: str = ""  # why its last start failed; empty: it did not


PLAIN = Standing()
