"""Keys, certificates and proofs of a cluster's parts: made, found, repaired, renewed, in virtual time."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rescoldo.cluster.authority import Authority, Pair
from rescoldo.cluster.identities import CHECK_SECONDS, ControlIdentity, Identities
from rescoldo.cluster.identities_kept import LABELS
from rescoldo.cluster.identities_wanted import control_subject, pool_subject
from rescoldo.kube.errors import Asked, Forbidden
from rescoldo.kube.fake import FakeCluster
from rescoldo.kube.protocol import Object
from rescoldo.kube.secrets import SECRETS, encoded, secret_object, values_of
from rescoldo.model.errors import InvalidInput, NotFound
from rescoldo.model.proof import is_proof

pytestmark = pytest.mark.looptime

START = 1_800_000_000.0
DAY = 86_400.0
SYSTEM = "rescoldo"
OF_SYSTEM = ("rescoldo-authority", "rescoldo-control-keys", "rescoldo-login", "rescoldo-pools")


class Namespaces(FakeCluster):
    """A fake that knows some namespaces, and refuses others."""

    def __init__(self) -> None:
        super().__init__()
        self.missing: set[str] = set()
        self.refused: set[str] = set()

    async def _ask(self, asked: Asked) -> None:
        await super()._ask(asked)
        if asked.namespace in self.refused:
            raise Forbidden(f"not allowed to {asked}")
        if asked.namespace in self.missing and asked.verb == "create":
            raise NotFound(f'namespaces "{asked.namespace}" not found')


class World:
    """A cluster with the namespaces blue and red, and its identities; `later` is added to the clock."""

    def __init__(self, folder: Path) -> None:
        self.cluster = Namespaces()
        self.later = 0.0
        self.folder = folder
        self.renewals = 0
        self.identities = self.another()

    def another(self) -> Identities:
        """Of another control."""
        return Identities(self.cluster, SYSTEM, ["blue", "red"], self.folder, clock=self.now)

    def now(self) -> float:
        return START + self.later + asyncio.get_running_loop().time()

    async def secret(self, name: str, namespace: str = SYSTEM) -> Object:
        return await self.cluster.get(SECRETS, name, namespace)

    async def values(self, name: str, namespace: str = SYSTEM) -> dict[str, bytes]:
        return values_of(await self.secret(name, namespace))

    async def everything(self) -> dict[tuple[str, str], dict[str, bytes]]:
        pages = [page async for page in self.cluster.list(SECRETS)]
        return {
            (one["metadata"]["namespace"], one["metadata"]["name"]): values_of(one)
            for page in pages
            for one in page.items
        }

    async def give(self, name: str, values: dict[str, bytes], namespace: str = SYSTEM, **labels: str) -> None:
        await self.cluster.create(SECRETS, secret_object(name, namespace, values, labels))

    async def change(self, name: str, values: dict[str, bytes | None], namespace: str = SYSTEM) -> None:
        data: dict[str, Any] = {key: value and encoded({key: value})[key] for key, value in values.items()}
        await self.cluster.patch(SECRETS, name, {"data": data}, namespace, "kubectl")

    async def authority(self) -> Authority:
        values = await self.values("rescoldo-authority")
        return Authority(Pair(values["tls.crt"], values["tls.key"]))

    async def fits(self, namespace: str) -> bool:
        """Whether the workers of a namespace have a good certificate of the present authority."""
        values, authority = await self.values("rescoldo-identity", namespace), await self.authority()
        pair = Pair(values["tls.crt"], values["tls.key"])
        return authority.fits(pair, pool_subject(namespace), self.now()) and (
            values["ca.crt"] == authority.pair.certificate
        )

    def renewed(self) -> None:
        self.renewals += 1

    @asynccontextmanager
    async def running(self) -> AsyncIterator[ControlIdentity]:
        found = await self.identities.prepare()
        running = asyncio.create_task(self.identities.run(self.renewed))
        await asyncio.sleep(2)  # until the watches are open
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
async def world(tmp_path: Path) -> World:
    return World(tmp_path / "identity")


# -- at control's start


async def test_all_of_it_is_made(world: World) -> None:
    found = await world.identities.prepare()
    expected = {*((SYSTEM, name) for name in OF_SYSTEM), ("blue", "rescoldo-identity"), ("red", "rescoldo-identity")}
    everything = await world.everything()
    assert everything.keys() == expected
    assert [await world.fits("blue"), await world.fits("red")] == [True, True]
    pools = everything[SYSTEM, "rescoldo-pools"]
    assert pools.keys() == {"blue", "red"}
    assert pools["blue"] != pools["red"]
    assert all(is_proof(value.decode()) for value in pools.values())
    assert everything["blue", "rescoldo-identity"]["pool-secret"] == pools["blue"] + b"\n"
    (key,) = everything[SYSTEM, "rescoldo-control-keys"].values()
    assert world.identities.control_key == key.decode()
    login = everything[SYSTEM, "rescoldo-login"]
    assert (found.user, found.password) == ("admin", login["basic-auth-password"].decode())
    assert found.payload_secret == login["payload-secret"]
    assert all([(await world.secret(name, place))["metadata"]["labels"] == LABELS for place, name in expected])
    assert world.identities.problems == ()


async def test_controls_own_files_are_for_its_user_alone(world: World) -> None:
    found = await world.identities.prepare()
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (world.folder, found.certificate, found.authority)]
    assert modes == [0o700, 0o600, 0o600]
    authority, pem = await world.authority(), found.certificate.read_bytes()
    assert authority.fits(Pair(pem, pem), control_subject(SYSTEM), world.now())
    assert found.authority.read_bytes() == authority.pair.certificate
    assert sorted(path.name for path in world.folder.iterdir()) == ["authority.pem", "control.pem"]


async def test_the_next_control_finds_it_and_changes_nothing(world: World) -> None:
    first = await world.identities.prepare()
    before = await world.everything()
    world.cluster.requests.clear()
    assert replace(await world.another().prepare(), certificate=first.certificate) == first
    assert await world.everything() == before
    assert {asked.verb for asked in world.cluster.requests} == {"get", "list"}


async def test_a_login_that_a_user_has_made_is_kept(world: World) -> None:
    await world.give("rescoldo-login", {"basic-auth-user": b"ada", "basic-auth-password": b"open sesame\n"})
    found = await world.identities.prepare()
    assert (found.user, found.password) == ("ada", "open sesame")
    login = await world.values("rescoldo-login")
    assert login["payload-secret"] == found.payload_secret
    assert login["basic-auth-password"] == b"open sesame\n"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"basic-auth-user": b"ada"}, "basic-auth-password is missing or empty"),
        ({"basic-auth-user": b"a:b", "basic-auth-password": b"s3cret"}, "basic-auth-user cannot hold ':'"),
        ({"basic-auth-user": b"ada", "basic-auth-password": b"s3cret\xff"}, "basic-auth-password is not UTF-8"),
        ({"payload-secret": b" "}, "payload-secret is missing or empty"),
    ],
)
async def test_a_login_that_cannot_be_used_is_named_with_the_remedy(
    world: World, values: dict[str, bytes], reason: str
) -> None:
    await world.give("rescoldo-login", values)
    with pytest.raises(InvalidInput, match=reason) as caught:
        await world.identities.prepare()
    assert "Secret rescoldo-login in namespace rescoldo: " in caught.value.message
    assert "kubectl delete secret rescoldo-login -n rescoldo" in caught.value.message
    assert "s3cret" not in caught.value.message
    assert await world.values("rescoldo-login") == values


@pytest.mark.parametrize("labels", [{}, LABELS])
async def test_an_authority_that_cannot_be_read_is_never_replaced(world: World, labels: dict[str, str]) -> None:
    values = {"tls.crt": b"-----BEGIN", "tls.key": b""}
    await world.give("rescoldo-authority", values, **labels)
    with pytest.raises(InvalidInput, match="Secret rescoldo-authority in namespace rescoldo: no authority's"):
        await world.identities.prepare()
    assert await world.everything() == {(SYSTEM, "rescoldo-authority"): values}


async def test_an_authority_that_others_have_made_issues_and_is_not_renewed(world: World) -> None:
    given = Authority.make("company", START).pair
    await world.give("rescoldo-authority", {"tls.crt": given.certificate, "tls.key": given.key, "ca.crt": b"more"})
    world.later = 3000 * DAY
    async with world.running():
        assert await world.fits("blue")
        assert (await world.authority()).pair == given
        (problem,) = world.identities.problems
        assert "not rescoldo's and ends soon" in problem


async def test_a_secret_of_a_users_own_that_has_our_name_is_left_alone(world: World) -> None:
    await world.give("rescoldo-identity", {"tls.crt": b"mine"}, "blue")
    await world.identities.prepare()
    assert await world.values("rescoldo-identity", "blue") == {"tls.crt": b"mine"}
    (problem,) = world.identities.problems
    assert problem.startswith("Secret rescoldo-identity in namespace blue is not rescoldo's")
    assert "kubectl label secret rescoldo-identity -n blue app.kubernetes.io/managed-by=rescoldo" in problem
    assert await world.fits("red")


async def test_a_namespace_without_rights_and_one_that_is_missing_do_not_stop_others(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.cluster.refused.add("blue")
    await world.identities.prepare()
    assert await world.fits("red")
    assert ["not allowed to get" in text for text in world.identities.problems] == [True]
    world.cluster.refused.clear()
    world.cluster.missing.add("blue")
    other = world.another()
    await other.prepare()
    assert other.problems == ("namespace blue does not exist: create it with kubectl create namespace blue",)
    assert "blue/rescoldo-identity is not as it should be" in caplog.text


async def test_a_proof_of_a_bad_form_stops_its_namespace_alone(world: World) -> None:
    await world.give("rescoldo-pools", {"blue": b"too short"})
    await world.identities.prepare()
    (problem,) = world.identities.problems
    assert problem.startswith("Secret rescoldo-pools in namespace rescoldo: the value of blue has not 16 to 512")
    assert "too short" not in problem
    assert await world.fits("red")
    assert ("blue", "rescoldo-identity") not in await world.everything()


async def test_keys_of_control_that_cannot_be_used_are_refused(world: World) -> None:
    await world.give("rescoldo-control-keys", {"a": b"short"})
    with pytest.raises(InvalidInput, match="rescoldo-control-keys in namespace rescoldo: none of its values has 16"):
        await world.identities.prepare()


async def test_two_controls_that_start_at_once_agree(world: World, tmp_path: Path) -> None:
    other = Identities(world.cluster, SYSTEM, ["blue", "red"], tmp_path / "other", clock=world.now)
    mine, theirs = await asyncio.gather(world.identities.prepare(), other.prepare())
    assert (mine.password, mine.payload_secret) == (theirs.password, theirs.payload_secret)
    assert world.identities.control_key == other.control_key
    assert mine.authority.read_bytes() == theirs.authority.read_bytes()
    assert [await world.fits("blue"), await world.fits("red")] == [True, True]
    conflicts = [asked for asked in world.cluster.requests if asked.verb == "create"]
    assert len(conflicts) > len(await world.everything()), "they met"


async def test_what_is_missing_in_rights_for_controls_own_namespace_ends_the_start(world: World) -> None:
    world.cluster.refused.add(SYSTEM)
    with pytest.raises(Forbidden):
        await world.identities.prepare()


# -- while control runs


async def test_what_is_deleted_comes_back_as_it_was(world: World) -> None:
    async with world.running():
        before = await world.everything()
        for namespace, name in before:
            await world.cluster.delete(SECRETS, name, namespace)
        await asyncio.sleep(5)
        after = await world.everything()
        kept = {key: values for key, values in before.items() if key[0] == SYSTEM}
        assert {key: values for key, values in after.items() if key[0] == SYSTEM} == kept
        assert after.keys() == before.keys()
        assert [await world.fits("blue"), await world.fits("red")] == [True, True]
        assert world.identities.problems == ()


async def test_what_others_write_into_an_identity_is_put_right(world: World) -> None:
    async with world.running():
        before = await world.values("rescoldo-identity", "blue")
        red = await world.values("rescoldo-identity", "red")
        await world.change("rescoldo-identity", {"tls.crt": red["tls.crt"], "tls.key": red["tls.key"]}, "blue")
        await world.change("rescoldo-identity", {"ca.crt": None, "pool-secret": None}, "blue")
        await asyncio.sleep(2)
        assert await world.fits("blue")
        assert (await world.values("rescoldo-identity", "blue"))["pool-secret"] == before["pool-secret"]


async def test_certificates_are_renewed_when_a_third_of_their_time_is_left(world: World) -> None:
    async with world.running() as found:
        before, own = await world.values("rescoldo-identity", "blue"), found.certificate.read_bytes()
        world.later = 59 * DAY
        await asyncio.sleep(CHECK_SECONDS + 1)
        assert (await world.values("rescoldo-identity", "blue"), world.renewals) == (before, 0)
        world.later = 61 * DAY
        await asyncio.sleep(CHECK_SECONDS + 1)
        after = await world.values("rescoldo-identity", "blue")
        assert after["tls.crt"] != before["tls.crt"]
        assert after["ca.crt"] == before["ca.crt"]
        assert await world.fits("blue")
        assert world.renewals == 1
        assert found.certificate.read_bytes() != own


async def test_the_authority_is_renewed_with_its_key(world: World) -> None:
    async with world.running() as found:
        before = await world.authority()
        world.later = 2450 * DAY
        await asyncio.sleep(CHECK_SECONDS + 1)
        after = await world.authority()
        assert after.pair.certificate != before.pair.certificate
        assert after.pair.key == before.pair.key
        assert found.authority.read_bytes() == after.pair.certificate
        assert [await world.fits("blue"), await world.fits("red")] == [True, True]


async def test_another_authority_that_is_stored_counts(world: World) -> None:
    async with world.running() as found:
        other = Authority.make("company", world.now()).pair
        await world.change("rescoldo-authority", {"tls.crt": other.certificate, "tls.key": other.key})
        await asyncio.sleep(2)
        assert [await world.fits("blue"), await world.fits("red")] == [True, True]
        assert (found.authority.read_bytes(), world.renewals) == (other.certificate, 1)


async def test_an_authority_that_is_damaged_meanwhile_is_a_problem_and_the_known_one_goes_on(world: World) -> None:
    async with world.running():
        good = await world.authority()
        await world.change("rescoldo-authority", {"tls.key": b"none"})
        await world.cluster.delete(SECRETS, "rescoldo-identity", "blue")
        await asyncio.sleep(2)
        (problem,) = world.identities.problems
        assert "rescoldo-authority in namespace rescoldo: no authority's certificate and key" in problem
        assert (await world.values("rescoldo-identity", "blue"))["ca.crt"] == good.pair.certificate
        await world.cluster.delete(SECRETS, "rescoldo-authority", SYSTEM)  # the remedy
        await asyncio.sleep(2)
        assert (await world.authority()).pair == good.pair
        assert world.identities.problems == ()


async def test_what_was_missing_is_made_within_a_minute_of_being_possible(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.cluster.missing.add("blue")
    async with world.running():
        await asyncio.sleep(200)
        assert len(world.identities.problems) == 1
        world.cluster.missing.clear()
        await asyncio.sleep(55)
        assert world.identities.problems == ()
        assert await world.fits("blue")
    assert caplog.text.count("is not as it should be") == 1
    assert "blue/rescoldo-identity is as it should be again" in caplog.text


async def test_it_goes_on_while_the_api_server_is_away(world: World) -> None:
    async with world.running():
        world.cluster.go_away()
        world.later = 61 * DAY
        await asyncio.sleep(CHECK_SECONDS + 1)
        assert world.renewals == 1, "control's own certificate needs no API server"
        world.cluster.come_back()
        await asyncio.sleep(60)
        assert await world.fits("blue")
        assert world.identities.problems == ()


async def test_at_rest_there_is_next_to_no_request(world: World) -> None:
    async with world.running():
        world.cluster.requests.clear()
        await asyncio.sleep(2 * CHECK_SECONDS)
        watches = [asked for asked in world.cluster.requests if asked.verb == "watch"]
        others = [asked for asked in world.cluster.requests if asked.verb != "watch"]
        assert len(watches) <= 3 * 2 * CHECK_SECONDS / 29
        assert len(others) <= 2 * 6


async def test_a_new_proof_of_a_pool_is_accepted_beside_the_one_before_until_the_certificate_is_renewed(
    world: World,
) -> None:
    async with world.running():
        old = (await world.values("rescoldo-pools"))["blue"]
        new = b"n" * 43
        await world.change("rescoldo-pools", {"blue": new})
        await asyncio.sleep(2)
        assert (await world.values("rescoldo-identity", "blue"))["pool-secret"] == new + b"\n" + old + b"\n"
        world.later = 61 * DAY
        await asyncio.sleep(CHECK_SECONDS + 1)
        assert (await world.values("rescoldo-identity", "blue"))["pool-secret"] == new + b"\n"


async def test_a_proof_that_a_user_adds_for_workers_stays_until_gateways_say_it(world: World) -> None:
    async with world.running():
        old, new = (await world.values("rescoldo-pools"))["blue"], b"n" * 43
        await world.change("rescoldo-identity", {"pool-secret": old + b"\n" + new + b"\n"}, "blue")
        await asyncio.sleep(2)
        assert (await world.values("rescoldo-identity", "blue"))["pool-secret"] == old + b"\n" + new + b"\n"
        await world.change("rescoldo-pools", {"blue": new})
        await asyncio.sleep(2)
        assert (await world.values("rescoldo-identity", "blue"))["pool-secret"] == new + b"\n" + old + b"\n"


async def test_control_says_the_first_of_its_keys(world: World) -> None:
    async with world.running():
        first = world.identities.control_key
        await world.change("rescoldo-control-keys", {"key-2": b"2" * 43})
        await asyncio.sleep(2)
        assert world.identities.control_key == first
        await world.change("rescoldo-control-keys", {"key-1": None})
        await asyncio.sleep(2)
        assert world.identities.control_key == "2" * 43


async def test_whoever_changes_an_identity_all_the_time_keeps_nobody_busy(world: World) -> None:
    async with world.running():
        world.cluster.requests.clear()
        for number in range(100):
            await world.change("rescoldo-identity", {"more": str(number).encode()}, "blue")
            await asyncio.sleep(0.05)
        assert len([asked for asked in world.cluster.requests if asked.verb == "get"]) < 20


async def test_no_value_is_in_a_repr_or_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    world.cluster.missing.add("red")
    async with world.running() as found:
        await world.change("rescoldo-authority", {"tls.crt": b"none"})
        await asyncio.sleep(100)
        told = caplog.text + repr(found) + repr(world.identities) + "".join(world.identities.problems)
        values = {value.decode() for values in (await world.everything()).values() for value in values.values()}
        assert not [value for value in values - {"none", "admin"} if value.strip() in told]


async def test_an_error_in_this_program_ends_run(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.identities.prepare()

    async def broken(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr("rescoldo.cluster.identities.keep", broken)
    with pytest.raises(ExceptionGroup):
        await world.identities.run()
