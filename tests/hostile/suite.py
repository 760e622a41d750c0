"""The list of attacks, and how each is run and judged."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from hostile.function import handler  # noqa: F401 - its attacks register
from hostile.function.kit import ATTACKS as BY_FUNCTIONS
from hostile.function.kit import MARKER as MARKER
from hostile.function.kit import FunctionAttack
from hostile.world import ATTACKER, PROGRAM, Level, Outcome, World, compiler

Run = Callable[[World, Outcome], None]

GROUPS = {
    "files": "A function reads or writes files of others",
    "environment": "A function searches its environment, descriptors and memory",
    "processes": "A function attacks other processes, namespaces and mounts",
    "ipc": "A function uses shared memory, queues, keys and abstract sockets",
    "network": "A function uses the network of the machine",
    "kernel": "A function uses powerful interfaces of the kernel",
    "programs": "A function makes system calls from its own binary",
    "bombs": "A function takes more than its share",
    "uploads": "A user who may deploy uploads a hostile bundle or hostile names",
    "packages": "A package runs its own code during its installation",
    "requests": "A caller sends requests that parsers may read differently",
}


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack; `unprivileged` says whether the lower level promises to refuse it, too."""

    name: str
    what: str
    group: str
    unprivileged: bool
    run: Run

    def __str__(self) -> str:
        return self.name


OTHERS: list[Attack] = []
_ENDS_ITSELF = ("kill_all",)  # attacks that may hit their own attacker


def attack(group: str, what: str, *, unprivileged: bool = True) -> Callable[[Run], Run]:
    """Register an attack that is made from outside."""

    def register(run: Run) -> Run:
        OTHERS.append(Attack(run.__name__, what, group, unprivileged, run))
        return run

    return register


def by_function(made: FunctionAttack, function: str = ATTACKER) -> Attack:
    """Return an attack that a function makes on request."""

    def run(world: World, outcome: Outcome) -> None:
        answer = world.attack(made.name, function)
        made_at_all = answer.status == 200 or (answer.status == 502 and made.name in _ENDS_ITSELF)
        outcome.judge("was made at all", made_at_all, f"{answer.status}: {answer.text}")
        if answer.status == 200:
            take(outcome, answer.text)

    name = made.name if function == ATTACKER else f"{made.name}-by-a-program"
    return Attack(name, made.what, made.group, made.unprivileged, run)


def take(outcome: Outcome, report: str) -> None:
    """Add a function's report to the outcome."""
    said = json.loads(report)
    outcome.refused |= said["refused"]
    outcome.gained |= said["gained"]
    outcome.judge("sees the marker", MARKER not in "".join(said["gained"].values()), "the gained data contains it")


def perform(attack: Attack, world: World) -> Outcome:
    """Make the attack while victim and platform are watched."""
    outcome = Outcome()
    with world.watched(outcome):
        attack.run(world, outcome)
    return outcome


def everything() -> list[Attack]:
    """Return all attacks, in the order of GROUPS."""
    from hostile import bombs, packages, requests, uploads  # noqa: F401 - their attacks register, once

    plain = [by_function(made) for made in BY_FUNCTIONS.values() if made.group != "bombs"]
    order = list(GROUPS)
    return sorted([*plain, *OTHERS], key=lambda attack: order.index(attack.group))


def possible(attack: Attack) -> bool:
    """Return whether this machine has the attack's tools: binaries need a C compiler."""
    return attack.group != "programs" or compiler() is not None


def at_level(level: Level) -> list[Attack]:
    """Return the attacks that a level promises to refuse. A program repeats the functions' attacks."""
    programs = [by_function(made, PROGRAM) for made in BY_FUNCTIONS.values() if made.group != "bombs"]
    return [attack for attack in (*everything(), *programs) if level == "full" or attack.unprivileged]
