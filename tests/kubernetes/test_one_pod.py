"""A whole platform in one pod, as Pod Security "restricted" wants it: what a worker is made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.gateway import HELLO
from support.pods import RESTRICTED, PodPlatform, pod

pytestmark = pytest.mark.slow

TELLS = (
    "import os, pathlib\n"
    "def handle(event, context):\n"
    "    secret = pathlib.Path(os.environ['secret_mount_path'], 'word').read_text()\n"
    "    return f\"{os.environ['greeting']} {secret} {os.getuid()}\"\n"
)
ANY_UID = {**RESTRICTED, "runAsUser": 1_000_680_000, "runAsGroup": 0}  # as OpenShift chooses one


@pytest.fixture(scope="module")
def platform(namespace: str) -> Iterator[PodPlatform]:
    with PodPlatform(pod(namespace, "one")) as found:
        yield found


def tell(platform: PodPlatform) -> Any:
    """Deploy a function with a variable and a secret of its own, and call it from zero."""
    body = {"name": "word", "value": "open sesame"}
    assert platform.system("POST", "/secrets", body).status in (201, 202)
    platform.deploy("tells", TELLS, secrets=["word"], envVars={"greeting": "hello"})
    return platform.invoke("tells")


def test_a_function_wakes_with_its_environment_and_its_secret(platform: PodPlatform) -> None:
    cold = tell(platform)
    assert cold.status == 200, platform.log()
    assert (cold.cold, cold.text) == (True, "hello open sesame 10001")
    # the edge has the route a moment after the first answer
    platform.until(lambda: not (warm := platform.invoke("tells")).cold and warm.text == cold.text, "a warm call")


def test_its_level_is_said(platform: PodPlatform) -> None:
    assert platform.platform_status()["isolation"]["level"] == "unprivileged"


def test_any_uid_with_the_group_of_root_will_do(namespace: str) -> None:
    with PodPlatform(pod(namespace, "any-uid", security=ANY_UID)) as platform:
        assert tell(platform).text == "hello open sesame 1000680000"


@pytest.mark.parametrize("part", ["edge", "node", "controller", "supervisor"])
def test_a_part_that_is_killed_loses_no_function(platform: PodPlatform, part: str) -> None:
    platform.deploy("stays", HELLO)
    assert platform.invoke("stays").status == 200
    platform.run("kill", "-9", platform.pid(part))
    assert platform.invoke("stays").text == "hello"
    platform.sleep("stays")
    assert platform.invoke("stays").text == "hello"
    assert platform.restarts() == 0
