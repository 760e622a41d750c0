"""Grants: which worker may run a function with `rescoldo.dev/max-strict: true`. Control decides, and asks nobody.

The guarantee: no two workers have a valid grant for a function at the same moment, whatever messages are lost, late or
repeated, and whenever control is started anew.

  * Each side measures durations on its own clock; no two clocks are compared. A worker counts from before it sent its
    request, control from its decision, which is later, and for a longer time, as clocks do not run equally fast (NTP
    slews by at most 0.05 %, DRIFT allows 1 %). Sent at 100.0 s, granted for 30 s at 100.2 s: the worker's grant ends at
    130.0 s, and control waits until 100.2 + 30 * 1.01 = 130.5 s before another worker gets one.
  * A grant whose answer is lost is one that nobody uses: that costs time, up to WAIT_SECONDS, and nothing else.
  * A grant is given back by the token of the latest one. A message that gave back an earlier one, and arrives late,
    ends nothing.
  * Holders are saved before their first answer, without times. After a restart each has its function for
    WAIT_SECONDS from then: its grant may have been renewed right before. So renewals need no save.
  * If what was saved is lost, nobody is granted anything for WAIT_SECONDS after the start.

A holder hears from `wanted` that another worker has asked, and may give back early.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rescoldo.model.names import FunctionId

GRANT_SECONDS = 30.0
DRIFT = 1.01
WAIT_SECONDS = GRANT_SECONDS * DRIFT


@dataclass(frozen=True, slots=True)
class Grant:
    """Control's answer to a worker that asks for a grant."""

    seconds: float  # from before the request was sent; 0: not granted
    token: str = ""  # with which it is given back
    retry_after: float = 0.0  # seconds, where it is not granted
    wanted: bool = False  # another worker has asked since the last answer


@dataclass(frozen=True, slots=True)
class _Holding:
    sender: str
    until: float  # seconds on control's clock
    token: str = ""  # of the latest grant; empty: not known since a restart
    wanted: bool = False


class GrantBook:
    """All grants of one control. Its caller saves holders: it calls `unsaved` after each `grant`, and answers once that
    holder is saved and `note_saved` told; one save of a function at a time."""

    def __init__(self, now: float, saved: Mapping[FunctionId, str] | None) -> None:
        """`now`: seconds on any clock that does not jump, as in all calls. `saved`: the holders that were saved before;
        None: they are lost."""
        self._closed_until = now + WAIT_SECONDS if saved is None else now
        self._saved = dict(saved or {})
        self._holdings = {
            function: _Holding(sender, now + WAIT_SECONDS) for function, sender in self._saved.items() if sender
        }

    def grant(self, function: FunctionId, sender: str, token: str, now: float) -> Grant:
        """Grant a function to `sender`, or renew its grant; `token` was never used before."""
        if now < self._closed_until:
            return Grant(0.0, retry_after=self._closed_until - now)
        before = self._holdings.get(function)
        if before is not None and before.sender != sender and now < before.until:
            self._holdings[function] = replace(before, wanted=True)
            return Grant(0.0, retry_after=before.until - now)
        wanted = before is not None and before.sender == sender and before.wanted
        self._holdings[function] = _Holding(sender, now + WAIT_SECONDS, token)
        return Grant(GRANT_SECONDS, token, wanted=wanted)

    def give_back(self, function: FunctionId, sender: str, token: str) -> None:
        """End a grant, if it is the latest; the next worker that asks gets one at once."""
        held = self._holdings.get(function)
        if held is not None and token and (held.sender, held.token) == (sender, token):
            del self._holdings[function]

    def holder(self, function: FunctionId) -> str:
        """The sender that had the last grant, which may have ended; empty: it was given back, or there was none."""
        held = self._holdings.get(function)
        return "" if held is None else held.sender

    def unsaved(self, function: FunctionId) -> bool:
        """Whether another holder is saved than there is."""
        return self.holder(function) != self._saved.get(function, "")

    def note_saved(self, function: FunctionId, holder: str) -> None:
        """Note that `holder` is saved as the function's holder; empty: that it has none."""
        self._saved[function] = holder
        if not holder:
            del self._saved[function]
