"""The functions whose present document this worker could not take over, and why."""

from __future__ import annotations

from rescoldo.model.names import FunctionId
from rescoldo.model.text import visible, whole

MOST_REASON = 500  # characters


class Refusals(dict[FunctionId, str]):
    """Reasons by function. A reason stays until a later document of its function is taken over, or the function is
    gone."""

    def note(self, function: FunctionId, reason: str) -> None:
        """Note why the present document of a function was not taken over; a long reason is cut."""
        self[function] = visible(whole(reason))[:MOST_REASON]

    def end(self, function: FunctionId) -> None:
        """Forget the reason, if there is one."""
        self.pop(function, None)
