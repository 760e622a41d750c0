"""SIGSTOP to a zygote or an instance: the platform replaces a stopped process like a dead one."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from test_kill import Load, deploy_awake

from support.gateway import TOKEN
from support.leftovers import no_leftovers
from support.live import Live, alive

pytestmark = pytest.mark.slow


@pytest.fixture
def own_platform() -> Iterator[Live]:
    with Live() as live, no_leftovers(live):
        yield live


def test_a_stopped_instance_is_replaced_and_calls_of_others_go_on(own_platform: Live) -> None:
    deploy_awake(own_platform, "victim", "other")
    (pid,), before = own_platform.instance_pids("victim"), own_platform.invoke("victim").text
    with Load(own_platform, "other") as load:
        os.kill(pid, signal.SIGSTOP)
        answer = own_platform.invoke("victim")
        load.more(20)
    assert load.errors == {}
    assert (answer.status, answer.text != before) == (200, True)
    assert not alive(pid)


def test_a_stopped_zygote_is_replaced_and_cold_calls_are_served(own_platform: Live) -> None:
    deploy_awake(own_platform, "awake")
    own_platform.deploy("asleep", image="token:test")
    zygote = own_platform.pid("zygote")
    with Load(own_platform, "awake") as load:
        os.kill(zygote, signal.SIGSTOP)
        cold = own_platform.invoke("asleep")
        load.more(20)
    assert load.errors == {}
    assert (cold.status, cold.cold) == (200, True)
    own_platform.until(lambda: not alive(zygote), "the stopped zygote to end")


def test_a_stopped_zygote_ends_after_its_node_is_killed(own_platform: Live) -> None:
    own_platform.deploy("a", TOKEN)
    zygote = own_platform.pid("zygote")
    os.kill(zygote, signal.SIGSTOP)
    own_platform.kill("node")
    own_platform.until(lambda: not alive(zygote), "the zygote to end")
    assert own_platform.invoke("a").status == 200
