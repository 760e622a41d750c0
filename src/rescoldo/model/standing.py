"""A function's state as a user sees it, and the part of it that outlives a controller."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """A function's state in `rescoldo list` and `describe`; its numbers of replicas agree with it."""

    DEPLOYING = "deploying"  # its first start is in progress or queued
    STARTING = "starting"  # it is waking
    READY = "ready"  # an instance answers
    ASLEEP = "asleep"  # the next call wakes it
    FAILING = "failing"  # its last start failed
    PAUSED = "paused"  # it takes no calls


@dataclass(frozen=True, slots=True)
class Standing:
    """The state that the store keeps of a function besides its deployment. Most functions are PLAIN: without a row."""

    paused: bool = False  # until it is resumed, calls are refused and no instance starts
    untried: bool = False  # its current revision has not started yet, and nothing protects it
    failure: str = ""  # why its last start failed; empty: it did not fail


PLAIN = Standing()
