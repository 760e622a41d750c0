"""The supervisor's children, with small programs in place of edge, node and controller."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from rescoldo.model.settings import Settings
from rescoldo.supervisor.child import Part
from rescoldo.supervisor.children import UNLIVELY, Children
from rescoldo.supervisor.held_descriptors import HeldDescriptors
from rescoldo.tasks import Tasks

pytestmark = pytest.mark.slow

LASTING = "import signal, sys\nprint('up', flush=True)\nsignal.pause()"
PATIENCE = 20.0


class World:
    """Children that run `code`, by name, and the parts of a supervisor that they need."""

    def __init__(self, folder: Path, code: dict[str, str]) -> None:
        self.settings = Settings(data=str(folder / "data"), run=str(folder / "run"))
        self.settings.run_path.mkdir()
        self.settings.save()
        ours, self.guardian = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.control = ours
        self.held = HeldDescriptors(ours, {})
        self.tasks = Tasks()
        self.reasons: list[str] = []
        self._code = code
        self.children = self.another(self.held)

    def another(self, held: HeldDescriptors) -> Children:
        """Children of a supervisor with these descriptors."""
        return Children(self.settings, held, self.tasks, self.reasons.append, lambda *_: self._parts())

    def _parts(self) -> dict[str, Part]:
        return {name: Part(name, self._command(code), {}) for name, code in self._code.items()}

    def _command(self, code: str) -> Callable[[], list[str]]:
        return lambda: [sys.executable, "-S", "-c", code]

    def noted(self) -> dict[str, int]:
        return dict(json.loads(self.settings.children_file.read_text()))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_up(self, name: str) -> int:
        """Wait until this child has written a line; return its pid."""
        await self.until(lambda: name in self.children.current and self.children.current[name].tail)
        return self.children.current[name].pid


@asynccontextmanager
async def world(folder: Path, **code: str) -> AsyncIterator[World]:
    made = World(folder, code)
    try:
        yield made
    finally:
        await made.tasks.close()
        await made.children.stop()
        for sock in (made.control, made.guardian):
            sock.close()


async def test_a_child_that_ends_is_restarted_and_recorded(tmp_path: Path) -> None:
    async with world(tmp_path, node=LASTING) as here:
        here.children.proven = True
        here.children.keep()
        first = await here.until_up("node")
        os.kill(first, signal.SIGKILL)
        await here.until(lambda: here.children.current["node"].pid != first)
        second = await here.until_up("node")
        assert here.noted() == {"guardian": os.getppid(), "supervisor": os.getpid(), "node": second}
        assert list(here.held.table) == [f"node:{second}"], "the guardian holds descriptors of the ended child"


async def test_a_platform_whose_child_keeps_dying_before_it_is_ready_is_given_up(tmp_path: Path) -> None:
    counted = tmp_path / "starts"
    code = f"open({str(counted)!r}, 'a').write('x')\nraise SystemExit('no such thing')"
    async with world(tmp_path, edge=code) as here:
        here.children.keep()
        await here.until(lambda: here.reasons)
        assert here.reasons == ["edge cannot start:\nno such thing"]
        assert len(counted.read_text()) == UNLIVELY


async def test_a_child_that_reports_a_wrong_configuration_is_not_restarted(tmp_path: Path) -> None:
    async with world(tmp_path, edge=f"print('no'); raise SystemExit({os.EX_CONFIG})") as here:
        here.children.keep()
        await here.until(lambda: here.reasons)
        assert here.reasons == ["edge cannot start:\nno"]


async def test_no_child_is_given_up_once_the_platform_was_ready(tmp_path: Path) -> None:
    counted = tmp_path / "starts"
    code = f"open({str(counted)!r}, 'a').write('x')\nraise SystemExit({os.EX_CONFIG})"
    async with world(tmp_path, edge=code) as here:
        here.children.proven = True
        here.children.keep()
        await here.until(lambda: counted.exists() and len(counted.read_text()) > 2)
        assert here.reasons == []


async def test_a_reload_starts_a_new_edge_beside_the_old_one_and_supervises_both(tmp_path: Path) -> None:
    async with world(tmp_path, edge=LASTING) as here:
        here.children.proven = True
        here.children.keep()
        old = await here.until_up("edge")
        here.children.replace_edge([sys.executable, "-S", "-c", LASTING])
        new = await here.until_up("edge")
        assert new != old and here.noted()[f"edge {old}, leaving"] == old
        os.kill(old, signal.SIGTERM)
        await here.until(lambda: f"edge {old}, leaving" not in here.noted())
        os.kill(new, signal.SIGKILL)
        await here.until(lambda: here.children.current["edge"].pid != new)


async def test_the_next_supervisor_adopts_children_by_the_guardians_descriptors(tmp_path: Path) -> None:
    async with world(tmp_path, node=LASTING) as here:
        here.children.proven = True
        here.children.keep()
        pid = await here.until_up("node")
        await here.tasks.close()
        # copies, as another process would inherit them
        copies = {name: [os.dup(number) for number in numbers] for name, numbers in here.held.table.items()}
        held = HeldDescriptors(here.control, copies)
        held.guardian = os.getpid()  # the parent of the children
        child = here.children.current["node"]
        other = here.another(held)
        other.adopt()
        assert other.proven
        adopted = other.current["node"]
        assert (adopted.pid, adopted.process) == (pid, None)
        await child.kill()
        await adopted.ended.wait()
        assert adopted.status is None and not held.table


async def test_the_node_is_stopped_after_edge_and_controller(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = f"""
import signal, sys
ends = {{signal.SIGTERM, signal.SIGUSR1}}
signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # one that comes before the wait must end the wait
print("up", flush=True)
signal.sigwait(ends)
open({str(order)!r}, "a").write(NAME + " ")
"""
    own = {name: f"NAME = {name!r}\n{code}" for name in ("edge", "node", "controller")}
    async with world(tmp_path, **own) as here:
        here.children.keep()
        for name in own:
            await here.until_up(name)
        await here.tasks.close()
        await here.children.stop()
        told = order.read_text().split()
        assert sorted(told[:2]) == ["controller", "edge"] and told[2:] == ["node"]
