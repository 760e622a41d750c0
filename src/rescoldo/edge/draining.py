"""Tells a running edge that the platform drains, and asks it for the calls that it still has.

The edge goes on as before, but for two things: /healthz answers 404, and each response closes its connection.
"""

from __future__ import annotations

import re

from rescoldo.edge.admin import AdminSocket

STARTS_DRAINING = "RESCOLDO_DRAINING"  # variable: an edge that starts with it drains from its start on
_SESSION = re.compile(r"\bfe=(\S+) be=(\S+) ")
# The frontends of haproxy.cfg.tmpl that take calls, and the backends whose requests are none: a follower of logs would
# never end.
_TAKE_CALLS = frozenset({"gateway", "held"})
_NO_CALLS = frozenset({"builds", "control", "health"})


async def begin_draining(admin: AdminSocket, pid: int) -> bool:
    """Tell the edge; return whether it was process `pid` that heard: after a reload the old one may still answer.

    Raises EdgeUnavailable.
    """
    # HAProxy calls variables of the process experimental, for this connection alone
    answer = await admin.run(
        "experimental-mode on", "set var proc.draining bool(true)", "get var proc.draining", "show info"
    )
    return "value=<1>" in answer and f"Pid: {pid}\n" in answer


async def has_calls(admin: AdminSocket) -> bool:
    """Whether calls of functions are in flight, held or queued, or a client is sending one. Idle connections do not
    count. Raises EdgeUnavailable."""
    found = _SESSION.findall(await admin.run("show sess"))
    return any(frontend in _TAKE_CALLS and backend not in _NO_CALLS for frontend, backend in found)
