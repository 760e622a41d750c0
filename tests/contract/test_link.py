"""What a worker may expect of control: of the fake, and of the fake behind the real server and client of the link."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from rescoldo.api.link import create_link
from rescoldo.api.server import MutualTls, PeerServer
from rescoldo.link.client import ControlClient
from rescoldo.link.fake import MemoryControl
from rescoldo.link.protocol import GONE, HEARTBEAT_SECONDS, Change, Control, Counts, Delivery, Report, Unreachable
from rescoldo.link.wire import decode_report, encode_report
from rescoldo.model.deployed import Deployed, to_json
from rescoldo.model.errors import InvalidInput, NotFound, Superseded
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.names import function_id
from rescoldo.model.revision import Revision
from rescoldo.policy.grants import GRANT_SECONDS
from rescoldo.store.protocol import Bundle, MinuteUsage
from support.certificates import Authority
from support.patience import SLOWNESS

FN, OTHER = function_id("fn"), function_id("other")
SPEC = FunctionSpec("fn", "me/some:image", secrets=("word",), env_vars={"ä": "€\n"}, labels={"a": "b"})
DOCUMENT = Deployed(
    Function(SPEC, "a" * 64, 1.5, revision=2, traffic={2: 60, 1: 40}), (Revision(1, SPEC, "b" * 64, 1.0),)
)
BUNDLE = Bundle("me/some:image", "a" * 64, 100, 2.5, 7)
POOL, STRANGER = "rescoldo://pool/openfaas-fn", "rescoldo://pool/elsewhere"
REPORT = Report("pod-1/ab12", {FN: 2}, {FN: 7, OTHER: 3}, {OTHER: "ä \n no"})
ROW = MinuteUsage(FN, 100, 200, True, 3, 4, 5, 6, 7)


@dataclass
class Served:
    """Control behind the real server, and what its clients need."""

    control: MemoryControl
    url: str
    authority: Authority

    def tls(self, uri: str) -> ssl.SSLContext:
        pair = self.authority.pair(uri.rpartition("/")[2], f"URI:{uri}")
        context = ssl.create_default_context(cafile=str(self.authority.root.certificate))
        context.load_cert_chain(pair.certificate, pair.key)
        return context

    @asynccontextmanager
    async def client(self, uri: str = POOL) -> AsyncIterator[ControlClient]:
        made = ControlClient(self.url, self.tls(uri))
        try:
            yield made
        finally:
            await made.close()


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    authority = Authority(tmp_path)
    own = authority.pair("control", "IP:127.0.0.1")
    control, stop = MemoryControl(), asyncio.Event()

    def control_of(uris: Sequence[str]) -> Control:
        if POOL not in uris:
            raise InvalidInput("this certificate is of no pool here")
        return control

    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    tls = MutualTls(own.certificate, own.key, authority.root.certificate)
    serving = asyncio.create_task(PeerServer(create_link(control_of), tls).serve(listener, stop))
    yield Served(control, f"https://127.0.0.1:{port}", authority)
    control.leave()  # ends the streams
    stop.set()
    await serving


@pytest.fixture(params=["memory", "link"])
async def both(request: pytest.FixtureRequest, served: Served) -> AsyncIterator[tuple[Control, MemoryControl]]:
    """A worker's view, and control itself."""
    if request.param == "memory":
        control = MemoryControl()
        yield control, control
        return
    async with served.client() as client:
        yield client, served.control


async def after(changes: AsyncIterator[Change | None]) -> Change:
    """The next change."""
    async with asyncio.timeout(10 * SLOWNESS):
        while (change := await anext(changes)) is None:
            pass
        return change


async def test_a_function_comes_with_what_it_needs(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    control.layers, control.secret_values = {"a" * 64: "c" * 64}, {("openfaas-fn", "word"): b"\x00\xff sesame"}
    version = await control.documents.put(DOCUMENT)
    expected = Delivery(replace(DOCUMENT, version=version), {"a" * 64: "c" * 64}, {"word": b"\x00\xff sesame"})
    assert await ours.deliver(FN) == expected
    assert await ours.deliver(OTHER) is None


async def test_secrets_are_in_no_representation() -> None:
    assert "sesame" not in repr(Delivery(DOCUMENT, {}, {"word": b"sesame"}))


async def test_versions_are_those_of_all_functions(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    assert await ours.versions() == {}
    version = await control.documents.put(DOCUMENT)
    assert await ours.versions() == {FN: version}


async def test_only_the_version_that_is_there_can_be_replaced(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    version = await ours.put(DOCUMENT)
    assert control.documents.shared[FN] == replace(DOCUMENT, version=version)
    await control.documents.put(replace(DOCUMENT, version=version, requested=2))
    with pytest.raises(Superseded, match="changed by somebody else"):
        await ours.put(replace(DOCUMENT, version=version))
    await ours.delete(FN)
    await ours.delete(FN)
    assert await ours.deliver(FN) is None


async def test_changes_are_told_from_the_first_item_on(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    changes = ours.changes()
    assert await anext(changes) is None
    version = await control.documents.put(DOCUMENT)
    assert await after(changes) == Change(FN, version)
    await control.documents.delete(FN)
    assert await after(changes) == Change(FN, GONE)
    await changes.aclose()  # type: ignore[attr-defined]


@pytest.mark.slow
async def test_a_quiet_stream_gives_signs_of_life(both: tuple[Control, MemoryControl]) -> None:
    ours, _ = both
    changes = ours.changes()
    async with asyncio.timeout(3 * HEARTBEAT_SECONDS * SLOWNESS):
        assert [await anext(changes), await anext(changes)] == [None, None]
    await changes.aclose()  # type: ignore[attr-defined]


async def test_a_stream_whose_control_leaves_is_unreachable(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    changes = ours.changes()
    await anext(changes)
    control.leave()
    with pytest.raises(Unreachable):
        await after(changes)
    counts = Counts("a", 1, ())
    asked = (ours.versions(), ours.deliver(FN), ours.put(DOCUMENT), ours.count(counts), ours.report(REPORT))
    for call in (*asked, ours.grant(FN, "a"), ours.give_back(FN, "a", "t")):
        with pytest.raises(Unreachable):
            await call


async def test_images_name_their_bundle_and_layer(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    control.images["me/some:image"] = (BUNDLE, "c" * 64)
    assert await ours.image("me/some:image") == (BUNDLE, "c" * 64)
    assert await ours.image("me/other:image") is None


async def test_archives_come_whole(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    control.archives["layers", "c" * 64] = bytes(range(256)) * 1000
    assert b"".join([chunk async for chunk in ours.archive("layers", "c" * 64)]) == bytes(range(256)) * 1000
    with pytest.raises(NotFound, match="no bundles with digest"):
        await anext(ours.archive("bundles", "c" * 64))


async def test_a_batch_counts_once(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    for number in (1, 1, 2, 1, 2):
        await ours.count(Counts("me", number, (ROW,)))
    await ours.count(Counts("you", 1, (ROW,)))
    assert control.counted == [ROW, ROW, ROW]


async def test_reports_of_a_sender_add_up(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    await ours.report(REPORT)
    await ours.report(Report("pod-2/ab12", {}, {FN: 6}, {}))
    await ours.report(Report("pod-1/ab12", {}, {OTHER: GONE}, {}))
    first, second = control.reported.values()
    assert first == Report("pod-1/ab12", {}, {FN: 7}, {})
    assert (first.worker, second.worker) == ("pod-1", "pod-2")


async def test_a_mark_goes_with_its_change_and_comes_back_in_a_report(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    changes = ours.changes()
    assert await anext(changes) is None
    control.marks[FN] = 2**40
    version = await control.documents.put(DOCUMENT)
    assert await after(changes) == Change(FN, version, 2**40)
    await changes.aclose()  # type: ignore[attr-defined]
    await ours.report(replace(REPORT, marks={FN: 2**40}))
    assert control.marked == {FN: 2**40}


async def test_a_worker_that_leaves_is_forgotten(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    await ours.report(REPORT)
    await ours.report(Report(REPORT.sender, {}, {}, {}, left=True))
    assert control.reported == {}


async def test_a_worker_takes_the_place_of_its_process_that_was_killed(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    await ours.report(REPORT)
    await ours.report(Report("pod-1/later", {}, {}, {}, earlier=REPORT.sender))
    assert list(control.reported) == ["pod-1/later"]


def test_a_worker_of_an_earlier_version_reports_no_marks() -> None:
    found = encode_report(REPORT)
    del found["marks"], found["left"], found["earlier"]
    assert decode_report(found) == replace(REPORT, marks=None)


async def test_a_grant_is_held_by_one_worker_at_a_time(both: tuple[Control, MemoryControl]) -> None:
    ours, _ = both
    first = await ours.grant(FN, "pod-1/a")
    assert (first.seconds, first.wanted) == (GRANT_SECONDS, False)
    refused = await ours.grant(FN, "pod-2/b")
    assert (refused.seconds, refused.retry_after > GRANT_SECONDS - 10) == (0.0, True)
    renewed = await ours.grant(FN, "pod-1/a")
    assert (renewed.seconds, renewed.wanted, renewed.token != first.token) == (GRANT_SECONDS, True, True)
    await ours.give_back(FN, "pod-1/a", first.token)
    assert not (await ours.grant(FN, "pod-2/b")).seconds
    await ours.give_back(FN, "pod-1/a", (await ours.grant(FN, "pod-1/a")).token)
    assert (await ours.grant(FN, "pod-2/b")).seconds


# -- the real link alone


async def test_a_pool_sees_its_own_namespace_alone(served: Served) -> None:
    async with served.client(STRANGER) as stranger:
        for call in (stranger.versions(), stranger.deliver(FN), stranger.image("a")):
            with pytest.raises(InvalidInput, match="of no pool here"):
                await call


async def test_a_client_without_a_certificate_is_not_heard(served: Served) -> None:
    context = ssl.create_default_context(cafile=str(served.authority.root.certificate))
    client = ControlClient(served.url, context)
    with pytest.raises(Unreachable):
        await client.versions()
    await client.close()


async def test_a_certificate_of_another_authority_is_not_heard(served: Served, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    pair = Authority(tmp_path / "other").pair("forged", f"URI:{POOL}")
    context = ssl.create_default_context(cafile=str(served.authority.root.certificate))
    context.load_cert_chain(pair.certificate, pair.key)
    client = ControlClient(served.url, context)
    with pytest.raises(Unreachable):
        await client.versions()
    await client.close()


async def test_a_document_under_another_name_is_refused(served: Served) -> None:
    async with served.client() as client:
        with pytest.raises(InvalidInput, match="not of other"):
            await client._ask("PUT", f"/functions/{OTHER}", to_json(DOCUMENT))
        with pytest.raises(InvalidInput, match="document cannot be read"):
            await client._ask("PUT", f"/functions/{FN}", {"spec": {}})
        with pytest.raises(InvalidInput, match="the field 'volumes', which this worker's version does not know"):
            await client._ask("PUT", f"/functions/{FN}", {**to_json(DOCUMENT), "volumes": ["a"]})


@pytest.mark.parametrize("sender", ["", "a" * 321])
async def test_a_request_for_a_grant_needs_a_sender(served: Served, sender: str) -> None:
    async with served.client() as client:
        with pytest.raises(InvalidInput, match="request for a grant"):
            await client.grant(FN, sender)


@pytest.mark.parametrize(
    "change",
    [
        {"sender": "a" * 321},
        {"awake": {FN: -1}},
        {"applied": {FN: "many"}},
        {"applied": {f"n{n}": 1 for n in range(100_001)}},
        {"refused": {FN: "x" * 501}},
        {"refused": ["no table"]},
    ],
)
async def test_a_report_out_of_bounds_is_refused(served: Served, change: dict[str, object]) -> None:
    async with served.client() as client:
        with pytest.raises(InvalidInput, match="report"):
            await client._ask("POST", "/reports", {**encode_report(REPORT), **change})
    assert served.control.reports == 0



async def test_secrets_come_by_name(both: tuple[Control, MemoryControl]) -> None:
    ours, control = both
    control.secret_values = {("openfaas-fn", "word"): b"\x00\xff", ("openfaas-fn", "other"): b"x"}
    assert await ours.secrets(["word", "lacking"]) == {"word": b"\x00\xff"}
