"""A Function's condition Acknowledged names the workers that lag, and costs nothing while all is well."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from acknowledging import FN, OTHER, Cell, running, seconds_of

from rescoldo.cluster.acknowledgements import ACKNOWLEDGED_SECONDS
from rescoldo.cluster.lags import LOOK_SECONDS, Lags
from rescoldo.cluster.protocol import Answered, Asked, NoOwner
from rescoldo.cluster.secret_changes import SHOWN, AcknowledgedSecrets
from rescoldo.cluster.unowned import PAUSE_SECONDS, Unowned
from rescoldo.kube.functions import FUNCTIONS
from rescoldo.link.protocol import Report
from rescoldo.model.names import FunctionId, function_id, split_id

pytestmark = pytest.mark.looptime
SOON = 3 * LOOK_SECONDS


@dataclass
class Told(Cell):
    """A control that tells of its workers. Its owners answer unless they are away."""

    away: bool = False
    asked: list[str] = field(default_factory=list)

    async def begin(self, **more: Any) -> None:  # type: ignore[override]
        await super().begin(**more)
        self.unowned = Unowned(self.documents, self, self.reports)
        self.spawn(self.unowned.run())
        self.spawn(Lags(self.documents, self.acknowledgements, self.reports, self.unowned).run())
        await asyncio.sleep(0)

    @asynccontextmanager
    async def ask(self, asked: Asked) -> AsyncIterator[Answered]:
        self.asked.append(f"{asked.method} {asked.target}")
        if self.away:
            raise NoOwner("nobody answers")

        async def nothing() -> AsyncIterator[bytes]:
            yield b""

        yield Answered(202, {}, nothing())

    async def told(self, function: FunctionId = FN) -> tuple[str, str, str] | None:
        status = (await self.cluster.get(FUNCTIONS, *split_id(function))).get("status", {})
        for one in status.get("conditions", []):
            if one["type"] == "Acknowledged":
                return one["status"], one["reason"], one["message"]
        return None

    def patches(self) -> int:
        return len([asked for asked in self.cluster.requests if asked.verb == "patch"])


@pytest.fixture
def cell(tmp_path: Path) -> Told:
    return Told(tmp_path)


async def test_a_change_that_all_confirm_is_no_request(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a")
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        before = cell.patches()
        await cell.acknowledgements.wait([FN])
        cell.acknowledgements.ask(FN)
        await asyncio.sleep(3600)
        assert (cell.patches(), await cell.told()) == (before, None)
        assert cell.acknowledgements.asked("openfaas-fn") == []


async def test_workers_that_lag_are_named_until_they_confirm(cell: Told) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await cell.worker("b", late={FN})
        await cell.deploy()
        before = cell.patches()
        cell.acknowledgements.ask(FN)
        await asyncio.sleep(ACKNOWLEDGED_SECONDS - 0.5)
        assert await cell.told() is None
        await asyncio.sleep(SOON)
        assert await cell.told() == ("False", "WorkersLag", "these workers have not confirmed the last change: a, b")
        await asyncio.sleep(600)
        assert cell.patches() == before + 1
        for one in cell.workers:
            await one.report({FN: cell.acknowledgements.mark(FN)})
            await asyncio.sleep(SOON)
        assert await cell.told() == ("True", "Acknowledged", "")
        assert cell.patches() == before + 3  # both, one, none
        assert worker.name == "a"


async def test_a_refusal_is_told_with_its_reason(cell: Told) -> None:
    async with running(cell):
        await cell.deploy()
        reason = "revision 2 did not start: no such module"
        pool = cell.pools["openfaas-fn"]
        await pool.report(Report("a/1", {}, {}, {FN: reason}))
        await asyncio.sleep(SOON)
        said = f"a could not take over the last change: {reason}"
        assert await cell.told() == ("False", "WorkersRefuse", said)
        await pool.report(Report("a/1", {}, {}, {}))
        await asyncio.sleep(SOON)
        assert await cell.told() == ("True", "Acknowledged", "")


async def test_a_spec_that_waits_to_be_deployed_stays_so(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        await cell.deploy()
        await cell.cluster.patch(FUNCTIONS, "fn", {"spec": {"image": "me/fn:2"}}, "openfaas-fn")
        cell.acknowledgements.ask(FN)
        await asyncio.sleep(ACKNOWLEDGED_SECONDS + SOON)
        assert await cell.told() is not None
        wish = cell.documents.wish(FN)
        assert wish is not None
        assert wish.undone


async def test_the_next_control_finds_out_anew(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        await cell.deploy()
        cell.acknowledgements.ask(FN)
        await asyncio.sleep(ACKNOWLEDGED_SECONDS + SOON)
        assert await cell.told() is not None
    async with running(cell):
        await cell.worker("a")
        await asyncio.sleep(1)
        assert (await cell.told() or "")[0] == "False"
        await asyncio.sleep(ACKNOWLEDGED_SECONDS + SOON)
        assert (await cell.told() or "")[0] == "True"


async def test_a_removed_function_is_not_waited_for(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        await cell.deploy()
        cell.acknowledgements.ask(FN)
        await cell.documents.delete(FN)
        await asyncio.sleep(ACKNOWLEDGED_SECONDS + SOON)
        assert cell.acknowledgements.asked("openfaas-fn") == []


# -- deployments without an owner


async def test_a_deployment_without_a_worker_says_so_until_one_serves_it(cell: Told) -> None:
    async with running(cell):
        await cell.deploy()
        cell.unowned.add(FN)
        await asyncio.sleep(SOON)
        said = "no worker has taken it over yet: namespace openfaas-fn has none that is connected to control"
        assert await cell.told() == ("False", "NoWorker", said)
        await asyncio.sleep(600)
        assert cell.asked == []  # there is nobody to ask
        worker = await cell.worker("a")
        await asyncio.sleep(SOON)
        assert cell.asked == ["POST /system/function/fn/keep?namespace=openfaas-fn"]
        said = "no worker has taken it over yet, and none of these has confirmed it: a"
        assert await cell.told() == ("False", "NoWorker", said)
        await asyncio.sleep(3 * PAUSE_SECONDS)
        assert len(cell.asked) == 4
        worker.served[FN] = cell.documents.version(FN)
        await worker.report({})
        await asyncio.sleep(SOON)
        assert await cell.told() == ("True", "Acknowledged", "")
        before = cell.patches(), len(cell.asked)
        await asyncio.sleep(600)
        assert (cell.patches(), len(cell.asked)) == before


async def test_an_owner_that_is_away_is_asked_again_by_the_next_control(cell: Told) -> None:
    cell.away = True
    async with running(cell):
        await cell.worker("a")
        await cell.deploy()
        cell.unowned.add(FN)
        await asyncio.sleep(SOON)
    cell.asked.clear()
    async with running(cell):
        await cell.worker("a")
        await asyncio.sleep(SOON)
        assert cell.asked == ["POST /system/function/fn/keep?namespace=openfaas-fn"]


async def test_a_removed_function_needs_no_owner(cell: Told) -> None:
    async with running(cell):
        await cell.deploy()
        cell.unowned.add(FN)
        await cell.documents.delete(FN)
        await asyncio.sleep(SOON)
        assert FN not in cell.unowned


# -- secrets


@dataclass
class Changing:
    """The controller's secrets: a change deploys the functions that name them once more."""

    cell: Cell
    users: list[FunctionId] = field(default_factory=lambda: [FN])

    async def secrets(self, namespace: str) -> list[str]:
        return ["word"]

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]:
        await self.renew(namespace, name)
        return ()

    async def delete_secret(self, namespace: str, name: str) -> None: ...

    async def renew(self, namespace: str, name: str) -> None:
        for function in self.users:
            await self.cell.deploy(function)

    def acknowledged(self) -> AcknowledgedSecrets:
        return AcknowledgedSecrets(
            self, lambda namespace, name: self.users, self.cell.acknowledgements, self.cell.reports
        )


async def save(cell: Told, users: Sequence[FunctionId] = (FN,)) -> tuple[float, Sequence[str]]:
    changed = Changing(cell, [*users]).acknowledged()
    took, notes = await seconds_of(changed.save_secret("openfaas-fn", "word", b"x", must_exist=True))
    return took, notes


async def test_a_changed_secret_is_answered_when_workers_have_it(cell: Told) -> None:
    async with running(cell):
        worker = await cell.worker("a")
        worker.served[FN] = await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        took, notes = await save(cell)
        assert (took < 0.5, notes) == (True, [])
        assert worker.served[FN] == cell.documents.version(FN)


async def test_a_secret_that_no_function_names_is_answered_at_once(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a")
        assert await save(cell, ()) == (0.0, [])


async def test_workers_without_the_new_value_are_named_in_the_answer_and_the_condition(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        took, notes = await save(cell, (FN, OTHER))
        said = "these workers have not confirmed the last change: a"
        assert (round(took), notes) == (ACKNOWLEDGED_SECONDS, [f"{FN}: {said}"])
        await asyncio.sleep(SOON)
        assert await cell.told() == ("False", "WorkersLag", said)
        assert await cell.told(OTHER) is None


async def test_a_worker_that_keeps_the_old_value_says_why(cell: Told) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        changed = Changing(cell).acknowledged()
        saving = asyncio.create_task(changed.save_secret("openfaas-fn", "word", b"x", must_exist=True))
        await asyncio.sleep(0.1)
        marks = {FN: cell.acknowledgements.mark(FN)}
        await worker.pool.report(Report("a/1", {}, {}, {FN: "it exits with 1"}, marks))
        assert await saving == [f"{FN}: a could not take over the last change: it exits with 1"]


async def test_an_answer_names_some_of_many_functions(cell: Told) -> None:
    users = [function_id(f"fn{number:02}") for number in range(SHOWN + 2)]
    async with running(cell):
        await cell.worker("a", late=set(users))
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        _, notes = await save(cell, users)
        assert (len(notes), notes[-1]) == (SHOWN + 1, "and 2 more functions")


async def test_nobody_waits_for_a_secret_that_kubectl_changes(cell: Told) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        took, _ = await seconds_of(Changing(cell).acknowledged().renew("openfaas-fn", "word"))
        assert took < 0.1
        await asyncio.sleep(ACKNOWLEDGED_SECONDS + SOON)
        assert (await cell.told() or "")[1] == "WorkersLag"
