"""The life of a revision, and of each time that it is awake: the states, and which may follow which.

A revision that takes traffic (`Entry`) is in one of these states. Names on the arrows are the transitions, methods of
`Entry` and the only code that changes a state:

    ASLEEP ──begin_wake──► WAKING ──serve──► AWAKE ──close──► CLOSING
      ▲  ▲                    │               │  ▲              │  │
      │  └─────give_up────────┘               │  └───reopen─────┘  │
      ├──────────────let_go───────────────────┴────────────────────┤
      └──────────────fall_asleep───────────────────────────────────┘

* ASLEEP: its calls are held and ask for a wake. It gets none while it is paused (`Standing`), nor before the back-off
  of a start that failed is over (`Failure`).
* WAKING: one task starts the first instance; all callers wait for that task.
* AWAKE: its route leads to a slot with instances.
* CLOSING: its route says asleep already. A call takes it back (`reopen`) until the slot has been quiet (`fall_asleep`).
* REMOVED: the function, or the revision's share of its traffic, is gone (`remove`, from ASLEEP). It is never left.

Three ways lead past this order. What was started aside (a new revision, a changed secret) takes over by `serve` from
any state. A new revision that was not started aside, a pause, a removal and a scaling to zero let go of what there is
from any state. When its last instance is lost, it is let go of, too: the next call wakes it.

Each time awake (`Awake`: a slot on loan and the instances in it, all of one revision) has stages, and goes through them
once:

    STARTING ──► SERVING ◄──► CLOSING
        │           │          │   │
        └───────────┴► DRAINING◄   │
                           └──► ENDING ◄──

* STARTING: its first instance is on its way; nothing is routed to the slot.
* SERVING, CLOSING: it belongs to an entry that is AWAKE, CLOSING. No other stage belongs to one.
* DRAINING: nothing is routed to the slot; it finishes the requests that it has.
* ENDING: the slot is quiet and its instances are stopped; one that is still being started must not join them. Then the
  slot is given back. A start that fails goes there at once.

Invariants, checked at each transition: a revision is never awake and being woken; what it is awake with is SERVING or
CLOSING; a stage follows one that it may follow. A break is a fault of ours and raises `IllegalTransition`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Life(Enum):
    """The state of a revision; see the module."""

    ASLEEP = "asleep"
    WAKING = "waking"
    AWAKE = "awake"
    CLOSING = "closing"
    REMOVED = "removed"


class Stage(Enum):
    """The stage of one time awake; see the module."""

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
    """A state cannot follow the one before: a fault of ours."""
