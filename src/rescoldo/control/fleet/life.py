"""The life of a revision, and of each of its awake periods: the states, and which may follow which.

A revision that takes traffic (`Entry`) is in one of these states. The arrows bear the names of the transitions:
methods of `Entry`, and the only code that changes a state:

    ASLEEP ──begin_wake──► WAKING ──serve──► AWAKE ──close──► CLOSING
      ▲  ▲                    │               │  ▲              │  │
      │  └─────give_up────────┘               │  └───reopen─────┘  │
      ├──────────────let_go───────────────────┴────────────────────┤
      └──────────────fall_asleep───────────────────────────────────┘

* ASLEEP: the edge holds its calls and asks for a wake. No wake begins while it is paused (`Standing`), or before the
  back-off of a failed start is over (`Failure`).
* WAKING: one task starts the first instance; every caller waits for that task.
* AWAKE: its route leads to a slot with instances.
* CLOSING: its route says asleep already. A call reopens it (`reopen`) until the slot has been quiet (`fall_asleep`).
* REMOVED: the function, or the revision's share of its traffic, is gone (`remove`, from ASLEEP). This state is final.

Three exceptions to this order. Instances that were started aside (for a new revision or a changed secret) take over by
`serve` from any state. A new revision that was not started aside, a pause, a removal and a scaling to zero call
`let_go` from any state. So does the loss of the last instance: the next call wakes the revision.

Each awake period (`Awake`: a slot on loan and the instances in it, all of one revision) goes through these stages
once:

    STARTING ──► SERVING ◄──► CLOSING
        │           │          │   │
        └───────────┴► DRAINING◄   │
                           └──► ENDING ◄──

* STARTING: its first instance is being started; no route leads to the slot.
* SERVING, CLOSING: it belongs to an entry that is AWAKE or CLOSING, respectively. In the other stages no entry has it.
* DRAINING: no route leads to the slot, which finishes its requests.
* ENDING: the slot is quiet and its instances are being stopped; an instance that is still being started must not join
  them. Then the slot is given back. A failed start goes here at once.

Invariants, checked at each transition: a revision is never awake and being woken at once; the `Awake` of an entry is
SERVING or CLOSING; a stage follows only a stage that `NEXT` allows. A violation is a bug and raises
`IllegalTransition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Life(Enum):
    """The state of a revision; the module's docstring describes each."""

    ASLEEP = "asleep"
    WAKING = "waking"
    AWAKE = "awake"
    CLOSING = "closing"
    REMOVED = "removed"


class Stage(Enum):
    """The stage of one awake period; the module's docstring describes each."""

    STARTING = "starting"
    SERVING = "serving"
    CLOSING = "closing"
    DRAINING = "draining"
    ENDING = "ending"


NEXT: Mapping[Stage, frozenset[Stage]] = {
    Stage.STARTING: frozenset({Stage.SERVING, Stage.DRAINING, Stage.ENDING}),
    Stage.SERVING: frozenset({Stage.CLOSING, Stage.DRAINING}),
    Stage.CLOSING: frozenset({Stage.SERVING, Stage.DRAINING, Stage.ENDING}),
    Stage.DRAINING: frozenset({Stage.ENDING}),
    Stage.ENDING: frozenset(),
}
"""The stages that may follow each."""


class IllegalTransition(Exception):
    """A state cannot follow the present one: a bug of the platform."""
