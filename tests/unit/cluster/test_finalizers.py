"""A deleted Function stays until its workers have let go of it, and no longer than five seconds."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from acknowledging import FN, OTHER, Cell, running, seconds_of

from rescoldo.cluster.acknowledgements import ACKNOWLEDGED_SECONDS
from rescoldo.cluster.finalizers import Finalizers
from rescoldo.cluster.objects import FINALIZER
from rescoldo.kube.functions import FUNCTIONS, to_object
from rescoldo.link.protocol import GONE
from rescoldo.model.deployed import Deployed
from rescoldo.model.errors import Conflict, NotFound
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import split_id

pytestmark = pytest.mark.looptime
THEIRS = "foregroundDeletion"


class Deletions(Cell):
    """A control with its finalizers, and kubectl."""

    async def begin(self, **more: Any) -> None:  # type: ignore[override]
        await super().begin(**more)
        self.spawn(Finalizers(self.documents, self.acknowledgements, ("openfaas-fn",)).run())
        await asyncio.sleep(0)

    async def kubectl_delete(self, name: str = "fn", namespace: str = "openfaas-fn") -> float:
        """Delete as kubectl does, and return the seconds until the object is gone."""
        await self.cluster.delete(FUNCTIONS, name, namespace)
        took, _ = await seconds_of(self.is_gone(name, namespace))
        return took

    async def is_gone(self, name: str = "fn", namespace: str = "openfaas-fn") -> None:
        while True:
            try:
                await self.cluster.get(FUNCTIONS, name, namespace)
            except NotFound:
                return
            await asyncio.sleep(0.01)

    async def finalizers(self, name: str = "fn", namespace: str = "openfaas-fn") -> list[str]:
        found = await self.cluster.get(FUNCTIONS, name, namespace)
        return list(found["metadata"].get("finalizers", []))


@pytest.fixture
def cell(tmp_path: Path) -> Deletions:
    return Deletions(tmp_path)


async def test_a_deployment_has_its_finalizer_without_a_further_request(cell: Deletions) -> None:
    async with running(cell):
        before = len(cell.cluster.requests)
        await cell.deploy()
        assert await cell.finalizers() == [FINALIZER]
        verbs = [asked.verb for asked in cell.cluster.requests[before:]]
        assert verbs == ["create", "create", "patch", "get"]  # object, revision, status; and the test's look


async def test_a_deletion_waits_for_workers_that_have_the_function(cell: Deletions) -> None:
    async with running(cell):
        workers = [await cell.worker(name) for name in ("a", "b")]
        version = await cell.deploy()
        workers[0].served[FN] = version
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        assert 0.05 <= await cell.kubectl_delete() < 1
        assert workers[0].served[FN] == GONE
        assert cell.documents.wish(FN) is None


async def test_a_function_is_removed_from_the_moment_of_its_deletion(cell: Deletions) -> None:
    async with running(cell):
        await cell.worker("a", late={FN})
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.cluster.delete(FUNCTIONS, *split_id(FN))
        await asyncio.sleep(0.1)
        assert await cell.documents.get(FN) is None
        assert await cell.documents.all() == []
        assert await cell.pools["openfaas-fn"].versions() == {}
        assert await cell.finalizers() == [FINALIZER]


async def test_a_worker_that_does_not_answer_costs_five_seconds_and_is_named(
    cell: Deletions, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(cell):
        await cell.worker("silent", late={FN})
        await cell.worker("well")
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        assert round(await cell.kubectl_delete()) == ACKNOWLEDGED_SECONDS
        assert "have not confirmed it: silent" in caplog.text
        assert cell.acknowledgements.asked("openfaas-fn") == []


async def test_without_workers_a_deletion_is_over_at_once(cell: Deletions) -> None:
    async with running(cell):
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        assert await cell.kubectl_delete() < 0.5


async def test_many_deletions_at_once_do_not_wait_for_each_other(cell: Deletions) -> None:
    async with running(cell):
        await cell.worker("silent", late={FN, OTHER})
        await cell.deploy()
        await cell.deploy(OTHER)
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        took, _ = await seconds_of(asyncio.gather(cell.kubectl_delete(), cell.kubectl_delete("other")))
        assert round(took) == ACKNOWLEDGED_SECONDS


async def test_a_deletion_while_no_control_runs_is_ended_by_the_next_one(cell: Deletions) -> None:
    async with running(cell):
        await cell.deploy()
    await cell.cluster.delete(FUNCTIONS, *split_id(FN))
    async with running(cell):
        assert await cell.documents.get(FN) is None
        worker = await cell.worker("back")
        took, _ = await seconds_of(cell.is_gone())
        assert took <= ACKNOWLEDGED_SECONDS + 0.1
        assert worker.served[FN] == GONE  # it was told, though it had the removal of nobody


async def test_a_deployment_takes_the_place_of_one_that_is_being_deleted(cell: Deletions) -> None:
    """`rescoldo remove && rescoldo deploy`."""
    async with running(cell):
        worker = await cell.worker("silent", late={FN})
        version = await cell.deploy()
        worker.served[FN] = version
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.documents.delete(FN)
        took, later = await seconds_of(cell.deploy(image="me/fn:2"))
        assert (took < 1, later > version) == (True, True)
        await asyncio.sleep(2 * ACKNOWLEDGED_SECONDS)
        found = await cell.documents.get(FN)
        assert found is not None
        assert (found.version, found.function.spec.image) == (later, "me/fn:2")
        assert await cell.finalizers() == [FINALIZER]


async def test_a_deletion_that_waits_for_somebody_else_is_no_place_for_a_deployment(cell: Deletions) -> None:
    async with running(cell):
        await cell.deploy()
        patch = {"metadata": {"finalizers": [THEIRS, FINALIZER]}}
        await cell.cluster.patch(FUNCTIONS, "fn", patch, "openfaas-fn")
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.documents.delete(FN)
        await asyncio.sleep(1)
        assert await cell.finalizers() == [THEIRS]
        with pytest.raises(Conflict, match=f"is being deleted, and waits for {THEIRS}"):
            await cell.deploy()


async def test_what_kubectl_has_made_gets_its_finalizer_when_it_is_deployed(cell: Deletions) -> None:
    async with running(cell):
        spec = FunctionSpec("fn", "me/fn:1")
        await cell.cluster.apply(FUNCTIONS, to_object(spec), manager="kubectl")
        await asyncio.sleep(1)
        assert await cell.finalizers() == []  # no worker has it
        await cell.documents.put(Deployed(Function(spec, "a" * 64, 1.0)))
        assert await cell.finalizers() == [FINALIZER]


async def test_a_finalizer_that_is_missing_is_put_back_once(cell: Deletions) -> None:
    async with running(cell):
        for function in (FN, OTHER):
            await cell.deploy(function)
        for name in ("fn", "other"):
            await cell.cluster.patch(FUNCTIONS, name, {"metadata": {"finalizers": None}}, "openfaas-fn")
        await asyncio.sleep(2)
        assert [await cell.finalizers(name) for name in ("fn", "other")] == [[FINALIZER]] * 2
        before = len(cell.cluster.requests)
        await asyncio.sleep(3600)
        assert [asked.verb for asked in cell.cluster.requests[before:] if asked.verb == "patch"] == []


async def test_a_namespace_without_workers_here_is_not_held(cell: Deletions) -> None:
    obj = to_object(FunctionSpec("fn", "me/fn:1", "former"))
    obj["metadata"]["finalizers"] = [FINALIZER, THEIRS]
    await cell.cluster.create(FUNCTIONS, obj)
    async with running(cell):
        await asyncio.sleep(1)
        assert await cell.finalizers("fn", "former") == [THEIRS]


async def test_an_api_server_that_is_away_delays_the_end_of_a_deletion(cell: Deletions) -> None:
    async with running(cell):
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.cluster.delete(FUNCTIONS, *split_id(FN))
        cell.cluster.forbidden.add("patch")
        await asyncio.sleep(30)
        assert await cell.finalizers() == [FINALIZER]
        cell.cluster.forbidden.clear()
        await asyncio.sleep(15)
        await cell.is_gone()


async def test_a_change_of_the_object_meanwhile_does_not_end_it(cell: Deletions) -> None:
    async with running(cell):
        worker = await cell.worker("a", late={FN})
        await cell.deploy()
        await asyncio.sleep(ACKNOWLEDGED_SECONDS)
        await cell.cluster.delete(FUNCTIONS, *split_id(FN))
        await asyncio.sleep(1)
        await cell.cluster.patch(FUNCTIONS, "fn", {"metadata": {"labels": {"a": "b"}}}, "openfaas-fn")
        await worker.report({FN: cell.acknowledgements.mark(FN)})
        took, _ = await seconds_of(cell.is_gone())
        assert took < 1
