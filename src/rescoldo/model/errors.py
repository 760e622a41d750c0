"""The one error hierarchy.

A class's docstring is its default message; `status` is the HTTP status its reader sees.
Adapters translate library errors into these, chained with `from`.
"""

from __future__ import annotations

from inspect import cleandoc

from rescoldo.model.text import whole


class RescoldoError(Exception):
    """Something went wrong in the platform."""

    status = 500

    def __init__(self, message: str = "") -> None:
        # a message may repeat text from outside, and is sent, stored and logged: so it must fit any encoding
        self.message = whole(message) or cleandoc(type(self).__doc__ or "")
        super().__init__(self.message)


class InvalidInput(RescoldoError):
    """The request is not valid."""

    status = 400


class UnknownImage(InvalidInput):
    """This image was not built or uploaded here."""


class NotSigned(RescoldoError):
    """The request's signature is missing or does not match the payload secret."""

    status = 401


class NotFound(RescoldoError):
    """Not found."""

    status = 404


class TooSlow(RescoldoError):
    """The request did not arrive in time."""

    status = 408


class Conflict(RescoldoError):
    """It exists already."""

    status = 409


class TooLarge(RescoldoError):
    """The payload is larger than allowed."""

    status = 413


class NotBuilt(RescoldoError):
    """This part of the API does not exist yet."""

    status = 501


class Busy(RescoldoError):
    """There is no room for this request now; try again later."""

    status = 503

    def __init__(self, message: str = "", *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after  # seconds


class StartFailed(RescoldoError):
    """The function's instance ended before it was ready."""

    status = 502


class StartTimeout(RescoldoError):
    """The function's instance was not ready in time."""

    status = 504


class Paused(RescoldoError):
    """The function is paused."""

    status = 503


ROLLOUT_HEADER = "X-Rescoldo-Rollout"  # "failed", "failing" where nothing serves, "starting" while it goes on


class RolloutFailed(RescoldoError):
    """The new revision did not start and takes no traffic."""

    status = 400


class NotStarted(RolloutFailed):
    """The function is deployed, but does not start."""


class NodeUnavailable(Busy):
    """The node is restarting; try again."""


class EdgeUnavailable(Busy):
    """The edge is restarting; try again."""


class StoreError(RescoldoError):
    """The store cannot be read or written."""


class StoreLocked(StoreError, Busy):
    """Another process holds the store locked; try again."""


class Superseded(StoreError, Conflict):
    """It was changed by somebody else at the same time; look at it again, then repeat your change."""

    status = 409


class NewerSchema(StoreError):
    """The data directory was written by a newer version of rescoldo."""


class BuildFailed(RescoldoError):
    """The function could not be built."""

    status = 400
