"""/system/alert: Alertmanager's webhook, with which a user's own alert rules scale functions."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from rescoldo.api.bodies import AlertBody, AlertsBody, read_body, takes
from rescoldo.api.protocol import Scaling, Statuses
from rescoldo.api.references import reference
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.model.names import FunctionId
from rescoldo.policy.alerts import replicas_after_alert


def alerts_router(statuses: Statuses, scaling: Scaling) -> APIRouter:
    """The route that takes alerts."""
    router = APIRouter()

    @router.post("/system/alert", openapi_extra=takes(AlertsBody))
    async def alert(request: Request) -> Response:
        """Scale every function that an alert names. A failure of one does not stop the others."""
        body = await read_body(request, AlertsBody)
        firing: dict[FunctionId, bool] = {}
        for one in body.alerts:
            function = _function(one)
            firing[function] = firing.get(function, False) or _is_firing(one, body)
        results = await asyncio.gather(*(scale(name, on) for name, on in firing.items()))
        if not (failures := [failure for failure in results if failure is not None]):
            return Response(status_code=200)
        # Alertmanager retries after 5xx only: that helps when there is no room, but not with an unknown name
        text = "".join(f"{failure}\n" for failure in failures)
        return PlainTextResponse(text, max(failure.status for failure in failures))

    async def scale(function: FunctionId, firing: bool) -> RescoldoError | None:
        try:
            status = await statuses.function(function)
            wanted = replicas_after_alert(firing, status.replicas, status.policy)
            if wanted is not None:
                await scaling.scale(function, wanted)
        except RescoldoError as error:
            return error
        return None

    return router


def _function(alert: AlertBody) -> FunctionId:
    """The function of an alert. Its label `function_name` is NAME.NAMESPACE, as in our metrics, or NAME beside a label
    `namespace`. With NAME.NAMESPACE that label is ignored: Prometheus may write the scraped target's namespace there.
    Raises InvalidInput."""
    name = alert.labels.get("function_name", "")
    if not name:
        raise InvalidInput("the request body is not valid: alerts: every alert needs the label function_name")
    return reference(name, "" if "." in name else alert.labels.get("namespace", ""))


def _is_firing(alert: AlertBody, body: AlertsBody) -> bool:
    status = alert.status or body.status
    if status not in ("firing", "resolved"):
        raise InvalidInput(f"the request body is not valid: status: {status[:80]!r}; use firing or resolved")
    return status == "firing"
