"""Compares the platform's instances, their sockets and the edge's servers with the expected state."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import Counter
from collections.abc import Mapping

from matrix.world import World
from rescoldo.edge.haproxy import OWN_BACKENDS

LOOK_SECONDS = 0.02
RUNNING = ("2", "0")  # operational and administrative state of a server that takes requests


async def becomes_true(world: World, wanted: Mapping[str, int], patience: float) -> None:
    """Wait until the state is right. Raises AssertionError with the difference after `patience` seconds."""
    wrong = "the state was not checked"
    try:
        async with asyncio.timeout(patience):
            while wrong := await asyncio.to_thread(wrong_state, world, wanted):
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"after {patience:g} s {wrong}\n{world.live.log()[-3000:]}") from None


def wrong_state(world: World, wanted: Mapping[str, int]) -> str:
    """Describe the first difference from the expected state; empty if there is none. `wanted` is the number of
    instances of some functions."""
    notes = world.notes()
    number = Counter(note.launch.function.partition(".")[0] for note in notes)
    for function, count in wanted.items():
        if number[function] != count:
            return f"{function} has {number[function]} instances instead of {count}"
    if starting := [note.launch.instance for note in notes if not note.ready]:
        return f"{starting} are not ready"
    functions = json.loads(world.live.system("GET", "/functions").text)
    said = {function["name"]: function["availableReplicas"] for function in functions if function["availableReplicas"]}
    if said != number:
        return f"the controller reports {said} instead of {dict(number)}"
    instances = {str(note.launch.instance) for note in notes}
    if strays := {path.stem for path in world.live.instances()} ^ instances:
        return f"{strays} have a socket or an instance, not both"
    return wrong_edge(world, instances, awake=len({(note.launch.function, note.launch.revision) for note in notes}))


def wrong_edge(world: World, instances: set[str], awake: int) -> str:
    """Describe the first wrong server or slot of the edge, where each of `awake` revisions has one slot; empty if
    there is none."""
    # columns: be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state …
    rows = [line.split() for line in admin(world, "show servers state").splitlines()[2:] if line]
    servers = {row[3]: row for row in rows if row[1] not in OWN_BACKENDS}
    if strays := servers.keys() ^ instances:
        return f"{strays} have a server at the edge or an instance, not both"
    if idle := [name for name, row in servers.items() if (row[5], row[6]) != RUNNING]:
        return f"servers {idle} take no requests"
    slots = {row[1] for row in servers.values()}
    if len(slots) != awake:
        return f"{awake} revisions are awake in {len(slots)} slots"
    # columns: pxname,svname,qcur,qmax,scur,…; type 2: backends only
    for line in admin(world, "show stat -1 2 -1").splitlines():
        slot, _, queued, _, in_flight, *_ = [*line.split(","), "", "", "", ""]
        if slot[:1] in ("s", "t") and slot[1:].isdigit() and slot not in slots and (queued, in_flight) != ("0", "0"):
            return f"slot {slot} has no server, {in_flight} requests and {queued} queued"
    return ""


def admin(world: World, command: str) -> str:
    """Return the response of the edge's Runtime API."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(5)
        connection.connect(str(world.live.settings.admin_socket))
        connection.sendall(f"{command}\n".encode())
        return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
