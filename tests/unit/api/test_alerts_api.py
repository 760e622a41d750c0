"""/system/alert: Alertmanager's webhook and the scaling that follows."""

from __future__ import annotations

from typing import Any

import pytest
from fake_platform import FakePlatform
from httpx2 import AsyncClient

from rescoldo.model.errors import Busy
from rescoldo.model.function import FunctionPolicy
from rescoldo.model.names import function_id
from rescoldo.policy.alerts import replicas_after_alert


def alerts(*named: tuple[str, str], status: str = "firing") -> dict[str, Any]:
    """The payload of Alertmanager's webhook, version 4; `named` are (status, function_name)."""
    return {
        "version": "4",
        "receiver": "scale-up",
        "status": status,
        "groupLabels": {"alertname": "APIHighInvocationRate"},
        "externalURL": "http://alertmanager:9093",
        "alerts": [
            {
                "status": one,
                "labels": {"alertname": "APIHighInvocationRate", "function_name": name, "severity": "major"},
                "annotations": {"summary": "High invocation rate"},
                "startsAt": "2026-01-02T03:04:05.678Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "generatorURL": "http://prometheus:9090",
            }
            for one, name in named
        ],
    }


async def deploy(client: AsyncClient, name: str = "echo", namespace: str = "", **labels: str) -> None:
    scale = {f"com.openfaas.scale.{key}": value for key, value in labels.items()}
    body = {"service": name, "image": "i", "labels": scale, "namespace": namespace}
    assert (await client.post("/system/functions", json=body)).status_code == 202


def replicas(platform: FakePlatform, name: str = "echo", namespace: str = "") -> int:
    return platform.deployed[function_id(name, namespace)].replicas


async def test_a_firing_alert_adds_a_share_of_the_maximum_until_it_is_reached(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await deploy(client, max="10", factor="25")  # a quarter of 10 is 3
    seen = []
    for _ in range(4):
        answer = await client.post("/system/alert", json=alerts(("firing", "echo.openfaas-fn")))
        assert (answer.status_code, answer.content) == (200, b"")
        seen.append(replicas(platform))
    assert seen == [4, 7, 10, 10]


async def test_a_resolved_alert_scales_back_to_the_minimum(client: AsyncClient, platform: FakePlatform) -> None:
    await deploy(client, min="2")
    await client.post("/system/alert", json=alerts(("firing", "echo.openfaas-fn")))
    assert replicas(platform) == 5
    answer = await client.post("/system/alert", json=alerts(("resolved", "echo.openfaas-fn"), status="resolved"))
    assert (answer.status_code, replicas(platform)) == (200, 2)


async def test_each_alert_counts_for_its_own_function_and_namespace(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await client.post("/system/namespace/blue")
    await deploy(client)
    await deploy(client, "echo", "blue")
    payload = alerts(("firing", "echo"), ("", "echo"))
    payload["alerts"][1]["labels"]["namespace"] = "blue"
    assert (await client.post("/system/alert", json=payload)).status_code == 200
    assert (replicas(platform), replicas(platform, "echo", "blue")) == (5, 5)


async def test_a_function_named_twice_is_scaled_once_and_firing_wins(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await deploy(client)
    names = [("resolved", "echo"), ("firing", "echo.openfaas-fn"), ("resolved", "echo")]
    await client.post("/system/alert", json=alerts(*names))
    assert replicas(platform) == 5


async def test_an_unknown_function_is_named_and_the_others_are_scaled(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await deploy(client)
    answer = await client.post("/system/alert", json=alerts(("firing", "none.openfaas-fn"), ("firing", "echo")))
    assert answer.status_code == 404
    assert "none.openfaas-fn" in answer.text
    assert replicas(platform) == 5


async def test_a_lack_of_capacity_is_a_503_which_alertmanager_retries(
    client: AsyncClient, platform: FakePlatform
) -> None:
    await deploy(client)
    platform.failure = Busy("no room")
    answer = await client.post("/system/alert", json=alerts(("firing", "none"), ("firing", "echo")))
    assert answer.status_code == 503


@pytest.mark.parametrize(
    "payload",
    [
        {},
        {"alerts": [{"status": "firing", "labels": {}}]},
        {"alerts": [{"status": "firing"}]},
        alerts(("burning", "echo")),
        alerts(("", "echo"), status=""),
        alerts(("firing", "No!")),
        {"alerts": [{}] * 1001},
    ],
)
async def test_an_invalid_payload_is_400(client: AsyncClient, payload: object) -> None:
    assert (await client.post("/system/alert", json=payload)).status_code == 400


@pytest.mark.parametrize(
    ("firing", "current", "policy", "wanted"),
    [
        (True, 0, FunctionPolicy(), 4),  # ceil(20 * 20 %)
        (True, 1, FunctionPolicy(max_replicas=3), 2),
        (True, 1, FunctionPolicy(scale_factor=100), 20),
        (True, 20, FunctionPolicy(), None),
        (True, 50, FunctionPolicy(), None),  # set by hand: a firing alert removes nothing
        (True, 1, FunctionPolicy(scale_factor=0), None),
        (True, 1, FunctionPolicy(min_replicas=4, max_replicas=4), None),
        (False, 4, FunctionPolicy(scale_factor=0), None),
        (False, 0, FunctionPolicy(), None),  # nothing to remove, and no reason to wake
        (False, 5, FunctionPolicy(), 1),
        (False, 5, FunctionPolicy(min_replicas=3), 3),
        (False, 1, FunctionPolicy(), None),
    ],
)
def test_the_number_after_an_alert(firing: bool, current: int, policy: FunctionPolicy, wanted: int | None) -> None:
    assert replicas_after_alert(firing, current, policy) == wanted
