"""How long a start may take, and from when."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from rescoldo.model.errors import StartFailed
from rescoldo.model.instance import Launch
from rescoldo.model.names import InstanceId, function_id
from rescoldo.model.program import PROCESS, PYTHON
from rescoldo.node.disk import BundlesOnDisk, SecretsOnDisk
from rescoldo.node.instances.boot import Boot
from rescoldo.node.instances.notes import Note
from rescoldo.node.instances.supervised import Supervised
from rescoldo.node.output.output import Output
from rescoldo.node.output.pump import Pump
from rescoldo.node.processes.processes import Ends
from rescoldo.node.processes.sandboxes import Sandboxes
from rescoldo.node.sockets.given_socket import GivenSocket
from rescoldo.node.zygotes.spares import Order, Spares
from rescoldo.node.zygotes.start_queue import AT_ONCE, StartQueue
from rescoldo.node.zygotes.zygotes import Zygotes

FN = function_id("fn")
READY_TIMEOUT = 1.0


class ZygotePool:
    """A pool whose forks are ready at once."""

    def __init__(self) -> None:
        self.start_queue = StartQueue()
        self.says = b'{"ready": true}\n'
        self.orders: list[dict[str, Any]] = []
        self.secrets: list[bytes] = []  # values that came with orders

    def spares_for(self, _: Launch) -> Spares:
        return cast(Spares, self)

    async def start(self, order: Order, forked: Callable[..., None]) -> None:
        _, _, _, status, *secrets = order.descriptors
        self.orders.append(json.loads(order.message))
        self.secrets += [os.pread(descriptor, 100, 0) for descriptor in secrets]
        os.write(status, self.says)

    def wake(self) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def served_a_wake(self) -> None:
        pass


@pytest.fixture
def zygotes() -> ZygotePool:
    return ZygotePool()


@pytest.fixture
def boot(zygotes: ZygotePool, tmp_path: Path) -> Boot:
    bundles = BundlesOnDisk(tmp_path, own_gids=False)
    return Boot(cast(Zygotes, zygotes), Ends(), Sandboxes(None, tmp_path / "cgroups"), bundles, SecretsOnDisk(tmp_path))


@pytest.fixture
async def instance(tmp_path: Path) -> Any:
    (tmp_path / "digest").mkdir()
    endpoint = GivenSocket(tmp_path / "i1.sock", privileged=False)
    endpoint.make()
    launch = Launch(InstanceId("i1"), FN, "digest", ready_timeout=READY_TIMEOUT)
    output = Output.create(tmp_path / "log", None, lambda _: None, launch.log_rate, Pump())
    yield Supervised(Note(launch, None, endpoint.address), tmp_path / "note.json", output, endpoint, str(tmp_path))
    output.close()
    endpoint.put_away()


async def all_taken(zygotes: ZygotePool) -> AsyncExitStack:
    """Take every turn; the next start waits until the stack is closed."""
    turns = AsyncExitStack()
    for _ in range(AT_ONCE):
        await turns.enter_async_context(zygotes.start_queue.turn("f.ns", replacing=False))
    return turns


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.slow
async def test_the_ready_timeout_excludes_the_wait_for_a_turn(
    boot: Boot, zygotes: ZygotePool, instance: Supervised
) -> None:
    others = await all_taken(zygotes)
    starting = asyncio.create_task(boot.start(instance))
    await asyncio.wait({starting}, timeout=1.2 * READY_TIMEOUT)
    assert not starting.done()
    await others.aclose()
    await starting
    assert instance.was_ready


async def test_a_start_cancelled_before_its_turn_leaves_no_descriptor(
    boot: Boot, zygotes: ZygotePool, instance: Supervised
) -> None:
    others = await all_taken(zygotes)
    before = descriptors()
    starting = asyncio.create_task(boot.start(instance))
    while not zygotes.start_queue.waited_for:
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait({starting})
    await others.aclose()
    assert descriptors() == before


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b'{"error": "bad \\ud800 \\u001b[2J\\nERROR: forged"}\n', "bad \ufffd \\x1b[2J\\nERROR: forged"),
        (b'{"error": "bad \xed\xa0\x80"}\n', "bad \ufffd\ufffd\ufffd"),
        (b"[" * 4090 + b"\n", "its status message is invalid (it is nested deeper than 4 levels)"),
        (b'{"error": ' + b"[" * 2040 + b"]" * 2040 + b"}\n", "its status message is invalid (it is nested deeper"),
        (b"x" * 10_000, "its status message is invalid"),
        (b'{"error": {"a": 1}}\n', "{'a': 1}"),
        (b'{"error": ["' + b"a" * 3000 + b'"]}\n', "['" + "a" * 998 + "!"),
        (b"[]\n", ""),
    ],
)
async def test_the_reason_of_a_failure_is_one_valid_line_whatever_the_instance_reports(
    boot: Boot, zygotes: ZygotePool, instance: Supervised, says: bytes, reason: str
) -> None:
    zygotes.says = says
    with pytest.raises(StartFailed) as caught:
        await boot.start(instance)
    assert f"{caught.value.message}!".partition(": ")[2].startswith(reason) or not reason
    caught.value.message.encode()
    assert "\n" not in caught.value.message


async def test_the_last_lines_of_output_in_a_reason_have_no_control_characters(
    boot: Boot, zygotes: ZygotePool, instance: Supervised
) -> None:
    zygotes.says = b'{"error": "bad"}\n'
    instance.output.tail.clear()
    out, err = instance.output.open_for_child()
    starting = asyncio.create_task(boot.start(instance))
    while not instance.ordered_at:
        await asyncio.sleep(0)
    os.write(err, b"\x1b]0;title\x07 \x1b[2Jgone\n")
    with pytest.raises(StartFailed) as caught:
        await starting
    assert caught.value.message.splitlines()[1] == r"\x1b]0;title\x07 \x1b[2Jgone"
    os.close(out)
    os.close(err)


# -- bundle and secrets of a start


def with_secrets(instance: Supervised, *names: str) -> None:
    instance.note = replace(instance.note, launch=replace(instance.note.launch, secrets=names))


async def test_an_order_names_the_bundles_folder_and_carries_the_secrets_in_order(
    boot: Boot, zygotes: ZygotePool, instance: Supervised, tmp_path: Path
) -> None:
    (tmp_path / "openfaas-fn").mkdir()
    for name in ("one", "two"):
        (tmp_path / "openfaas-fn" / name).write_text(name.upper())
    with_secrets(instance, "two", "one")
    await boot.start(instance)
    [order] = zygotes.orders
    assert (order["bundle"], order["gid"]) == (str(tmp_path / "digest"), 0)
    assert zygotes.secrets == [b"TWO", b"ONE"]


async def test_a_start_without_its_bundle_names_function_and_remedy_and_starts_no_process(
    boot: Boot, zygotes: ZygotePool, instance: Supervised, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "digest")
    with pytest.raises(StartFailed, match=rf"{FN}: its bundle digest is missing .*`rescoldo up`"):
        await boot.start(instance)
    assert zygotes.orders == []


async def test_a_start_without_one_of_its_secrets_leaves_no_descriptor(
    boot: Boot, zygotes: ZygotePool, instance: Supervised, tmp_path: Path
) -> None:
    (tmp_path / "openfaas-fn").mkdir()
    (tmp_path / "openfaas-fn" / "one").write_text("ONE")
    with_secrets(instance, "one", "two")
    before = descriptors()
    with pytest.raises(StartFailed, match=rf"{FN}: its secret 'two' cannot be read"):
        await boot.start(instance)
    assert descriptors() == before
    assert zygotes.orders == []


async def test_a_process_that_the_memory_watch_has_killed_ran_out_of_memory(boot: Boot, instance: Supervised) -> None:
    instance.condemned = "out of memory: it needed more"
    assert await boot.end(instance, grace=0.0) == ("out of memory: it needed more", True)


@pytest.mark.parametrize(("kind", "data"), [(PYTHON, 64 * 2**20), (PROCESS, 0)])
async def test_a_handler_without_a_cgroup_gets_a_limit_of_addresses_and_a_program_none(
    boot: Boot, zygotes: ZygotePool, instance: Supervised, kind: str, data: int
) -> None:
    limited = replace(instance.note.launch, kind=kind, memory_limit=64 * 2**20, upstream="inherited")
    instance.note = replace(instance.note, launch=limited)
    with contextlib.suppress(StartFailed):
        await boot.start(instance)
    assert [order["data"] for order in zygotes.orders] == [data]
