"""Any sequence of operations under constant traffic: the parts agree in the end, and no call fails because of
another."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque

import looptime
from control_world import World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rescoldo.edge.fake import CallFailed
from rescoldo.model.errors import NotFound, RescoldoError, StartFailed
from rescoldo.model.names import FunctionId, InstanceId, function_id

NAMES = ("a", "b", "c")
CALM = ("call", "sleep", "deploy", "scale", "wait", "controller")  # none of these may fail a call
ROUGH = (*CALM, "crash", "remove", "edge", "node", "fail", "pause", "resume")

steps = st.tuples(st.sampled_from(ROUGH), st.sampled_from(NAMES), st.integers(0, 3), st.floats(0, 0.6))
calm_steps = st.tuples(st.sampled_from(CALM), st.sampled_from(NAMES), st.integers(0, 3), st.floats(0, 0.6))
Step = tuple[str, str, int, float]


class Run:
    def __init__(self, world: World) -> None:
        self.world = world
        self.calls: list[asyncio.Task[InstanceId]] = []
        self.deploying: list[asyncio.Task[None]] = []

    async def step(self, what: str, name: str, number: int, seconds: float) -> None:
        world, function = self.world, function_id(name)
        deployed = function in world.fleet.entries
        if what == "call":
            self.calls += [asyncio.create_task(world.edge.call(function)) for _ in range(number + 1)]
        elif what == "deploy":
            self.deploying.append(asyncio.create_task(self.deploy(name, number)))
            if number % 2:
                await self.deploying[-1]
        elif what in ("sleep", "scale") and deployed:
            with contextlib.suppress(RescoldoError):  # the instance does not start
                await world.scaling.scale(function, 0 if what == "sleep" else 1 + number)
        elif what == "remove" and deployed:
            await world.removals.remove(function)
        elif what in ("pause", "resume") and deployed:
            await (world.pauses.pause(function) if what == "pause" else world.pauses.resume(function))
        elif what == "fail":
            world.node.fail.setdefault(function, deque()).append(StartFailed("broken"))
        else:
            await self.upset(what, name, number, seconds)
        await asyncio.sleep(seconds)

    async def deploy(self, name: str, number: int) -> None:
        with contextlib.suppress(RescoldoError):  # no start, no capacity, or removed meanwhile
            first = "checked" if number > 1 else "immediate"
            await self.world.deploy(name, window=f"{50 + 400 * number}ms", concurrency=2, first=first)

    async def upset(self, what: str, name: str, number: int, seconds: float) -> None:
        world = self.world
        if what == "crash":
            entry = world.fleet.entries.get(function_id(name))
            if entry is not None and entry.awake is not None and (own := list(entry.awake.servers)):
                running = await world.running()
                if (victim := own[number % len(own)]) in running:
                    world.lost(victim)
        elif what == "edge":
            world.edge.restart()
        elif what == "node":
            world.node.reachable = False
            await asyncio.sleep(seconds)
            world.node.reachable = True
        elif what == "controller":
            for deployment in self.deploying:
                deployment.cancel()
            await asyncio.gather(*self.deploying, return_exceptions=True)
            self.world = await world.restart_controller()


async def play(sequence: list[Step], delay: float) -> Run:
    """Play the steps; return when all calls have ended and all parts agree that everything sleeps."""
    run = Run(await World.make(slots=6))
    run.world.node.start_delay = run.world.node.stop_delay = 0.1
    run.world.edge.delay = delay

    async def work(function: FunctionId, instance: InstanceId) -> None:
        await asyncio.sleep(0.2)

    run.world.edge.work = work
    try:
        for name in NAMES[:2]:
            await run.world.deploy(name, window="100ms", concurrency=2)
        for step in sequence:
            await run.step(*step)
        await asyncio.wait(run.calls or [asyncio.create_task(asyncio.sleep(0))], timeout=200)
        await asyncio.gather(*run.deploying, return_exceptions=True)
        await asyncio.sleep(60)
        assert all(call.done() for call in run.calls), "a call hangs"
        for call in run.calls:
            # cancelled: held by a killed controller; wake.lua would ask the next one
            assert call.cancelled() or isinstance(call.exception(), RescoldoError | None)
        run.world.edge.delay = 0.0
        await run.world.check()
        for found in run.world.statuses.functions("openfaas-fn"):
            assert (found.replicas, found.available) == (0, 0), "a function has instances in the end"
            assert found.state in ("asleep", "failing", "paused"), "a start or deployment has not ended"
        assert run.world.slots.free == run.world.slots.size, "a function did not go to sleep"
    finally:
        await run.world.close()
    return run


def play_on_virtual_time(sequence: list[Step], delay: float) -> Run:
    loop = looptime.new_event_loop(start=0)
    try:
        return loop.run_until_complete(play(sequence, delay))
    finally:
        if left := asyncio.all_tasks(loop):
            for task in left:
                task.cancel()
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(steps, max_size=25), st.sampled_from([0.0, 0.01, 0.05]))
def test_after_any_sequence_nothing_leaks_and_everything_sleeps(sequence: list[Step], delay: float) -> None:
    play_on_virtual_time(sequence, delay)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(calm_steps, max_size=25), st.sampled_from([0.0, 0.01, 0.05]))
def test_no_call_fails_because_of_sleeping_waking_scaling_or_deploying(sequence: list[Step], delay: float) -> None:
    run = play_on_virtual_time([step for step in sequence if step[0] != "controller"], delay)
    for call in run.calls:
        error = call.exception()
        assert error is None or isinstance(error, NotFound), error
        assert not isinstance(error, CallFailed)
