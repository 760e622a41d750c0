"""Whether an instance that ended unasked is replaced where it stood, on the same socket."""

from __future__ import annotations

SHORTEST_LIFE = 1.0  # seconds; what ends sooner is in a crash loop, and its waiting clients are told


def replaces(*, ready_at: float, ended_at: float) -> bool:
    """Whether a replacement is started for an instance that was ready from `ready_at` to `ended_at`
    (seconds of one clock).

    Ready at 10.0 and ended at 12.5: it lived 2.5 s, so yes. Ended at 10.3: no, it lived 0.3 s.
    """
    return ended_at - ready_at >= SHORTEST_LIFE
