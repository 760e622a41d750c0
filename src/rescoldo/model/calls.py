"""One finished call, as the edge's access log tells it."""

from __future__ import annotations

from dataclasses import dataclass

from rescoldo.model.names import FunctionId


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A call to a function that has ended, however it ended."""

    function: FunctionId
    status: int  # HTTP status the client got; 0: it left before there was one
    cold: bool  # was held while an instance woke
    ended_at: float  # Unix seconds
    queue_ms: int  # waited: held for a wake and in the slot's queue
    run_ms: int  # from connected to the instance to the response's last byte
    bytes_in: int
    bytes_out: int
