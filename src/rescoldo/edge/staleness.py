"""Has a running edge refuse calls of functions while the worker's knowledge of them is too old, or serve them again."""

from __future__ import annotations

from rescoldo.edge.admin import AdminSocket
from rescoldo.model.errors import EdgeUnavailable

# HAProxy calls variables of the process experimental, for this connection alone
_ALLOWED = "experimental-mode on"
_ASK = "get var proc.stale"
_YES = "value=<1>"


async def refuses(admin: AdminSocket) -> bool:
    """Whether the edge refuses calls as stale. Raises EdgeUnavailable."""
    return _YES in await admin.run(_ALLOWED, _ASK)


async def refuse(admin: AdminSocket, *, stale: bool) -> None:
    """Have the edge refuse calls, or serve them. Raises EdgeUnavailable, also when it does not do as it is told."""
    answer = await admin.run(_ALLOWED, f"set var proc.stale bool({str(stale).lower()})", _ASK)
    if (_YES in answer) != stale:
        raise EdgeUnavailable(f"the edge does not take `proc.stale`: {answer.strip()}")
