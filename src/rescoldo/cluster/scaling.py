"""Alerts that scale functions, in a cluster's control: each function's owner scales it."""

from __future__ import annotations

import json

from rescoldo.cluster.protocol import Asked, Owners
from rescoldo.model.errors import RescoldoError
from rescoldo.model.names import FunctionId, split_id


class NotScaled(RescoldoError):
    """The owner of the function does not scale it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status  # the owner's


class OwnersScaling:
    """Implements the API's `Scaling` by requests to owners."""

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Raises NoOwner if no worker answers, and NotScaled for an owner that refuses."""
        name, namespace = split_id(function)
        asked = Asked(
            function, "POST", f"/system/scale-function/{name}?namespace={namespace}",
            {"content-type": "application/json"}, json.dumps({"serviceName": name, "replicas": replicas}).encode(),
        )  # fmt: skip
        async with self._owners.ask(asked) as answered:
            if answered.status >= 300:
                raise NotScaled(answered.status, await answered.text())
