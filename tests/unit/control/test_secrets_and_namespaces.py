"""Secrets reach the functions that name them, and no function loses one that it names, on virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from control_world import FN, IMAGE, World

from rescoldo.model.errors import Conflict, InvalidInput, NotFound, TooLarge
from rescoldo.model.function import Function, FunctionSpec
from rescoldo.model.limits import Limits
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, function_id
from rescoldo.model.secret import MAX_NAMESPACE_SECRETS, MAX_SECRET
from rescoldo.store.protocol import Namespace

pytestmark = pytest.mark.looptime

HERE = DEFAULT_NAMESPACE


async def deploy(world: World, name: str = "fn", **spec: Any) -> None:
    """Deploy; a first deployment starts nothing."""
    start = function_id(name) in world.fleet.entries
    await world.deployments.deploy(FunctionSpec(name, IMAGE, **spec), must_exist=False, start=start)


async def save(world: World, name: str, value: bytes = b"x", namespace: str = HERE) -> None:
    """Create or update."""
    exists = name in await world.function_secrets.secrets(namespace)
    await world.function_secrets.save_secret(namespace, name, value, must_exist=exists)


# -- an instance's secrets and limits


async def test_an_instance_gets_the_names_of_its_secrets_and_its_limits(world: World) -> None:
    await save(world, "b")
    await save(world, "a")
    await deploy(world, secrets=("b", "a", "b"), limits={"memory": "40Mi", "cpu": "250m"})
    await world.edge.call(FN)
    launch = world.node.started[0]
    assert (launch.secrets, launch.memory_limit, launch.cpu_limit) == (("b", "a"), 40 * 2**20, 250)


@pytest.mark.parametrize(
    ("spec", "memory"),
    [
        ({}, Limits().memory),
        ({"limits": {"cpu": "1"}}, Limits().memory),
        ({"limits": {"memory": "1Gi"}}, 2**30),
        ({"limits": {"memory": "0"}}, 0),
        ({"requests": {"memory": "1Gi"}}, 2**30),
        ({"requests": {"memory": "1Mi"}}, Limits().memory),
    ],
)
async def test_a_function_without_a_memory_limit_gets_the_default(world: World, spec: Any, memory: int) -> None:
    await deploy(world, **spec)
    await world.edge.call(FN)
    assert world.node.started[0].memory_limit == memory


@pytest.mark.parametrize("default", [0, 2**24])
async def test_the_default_memory_limit_is_a_setting(default: int) -> None:
    world = await World.make(limits=Limits(memory=default))
    await deploy(world)
    await world.edge.call(FN)
    assert world.node.started[0].memory_limit == default
    await world.close()


# -- deploying


async def test_a_deployment_that_names_a_missing_secret_is_refused_with_the_remedy(world: World) -> None:
    await save(world, "there")
    with pytest.raises(InvalidInput, match=r"has no secret a, gone: .*rescoldo secret create a ") as caught:
        await deploy(world, secrets=("there", "gone", "a"))
    assert caught.value.status == 400
    with pytest.raises(NotFound):
        await world.statuses.function(FN)


async def test_a_secret_belongs_to_its_namespace(world: World) -> None:
    await world.namespaces.save(Namespace("blue", {}, {}), must_exist=False)
    await save(world, "key", namespace="blue")
    with pytest.raises(InvalidInput, match="namespace openfaas-fn has no secret key"):
        await deploy(world, secrets=("key",))
    await deploy(world, namespace="blue", secrets=("key",))


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"secrets": ("../x",)}, "'../x'"),
        ({"secrets": tuple(f"s{n}" for n in range(51))}, "at most 50"),
        ({"requests": {"memory": "41Mi"}, "limits": {"memory": "40Mi"}}, "requests.memory"),
        ({"requests": {"cpu": "2"}, "limits": {"cpu": "500m"}}, "requests.cpu"),
        ({"requests": {"memory": "much"}}, "requests.memory: 'much'"),
        ({"constraints": ("kubernetes.io/os=windows",)}, "kubernetes.io/os"),
        ({"labels": {"com.openfaas.scale.factor": "101"}}, "0 to 100"),
    ],
)
async def test_an_invalid_deployment_is_refused(world: World, spec: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        await deploy(world, **spec)


async def test_stored_settings_that_this_version_refuses_get_the_defaults(world: World) -> None:
    await deploy(world)
    function = world.fleet.entries[FN].function
    broken = FunctionSpec("fn", IMAGE, requests={"memory": "much"}, labels={"com.openfaas.scale.factor": "x"})
    await world.store.save_function(type(function)(broken, function.digest, function.created_at))
    again = await world.restart_controller()
    assert await again.edge.call(FN)
    await again.close()


# -- changing


async def test_a_changed_secret_reaches_awake_functions_in_new_instances_and_no_call_fails(world: World) -> None:
    await save(world, "key", b"old")
    await deploy(world, secrets=("key",))
    await deploy(world, "other")
    first, other = await world.edge.call(FN), await world.edge.call(FunctionId(f"other.{HERE}"))
    done = world.hold_calls()
    in_flight = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(0.1)
    await save(world, "key", b"new")
    done.set()
    assert await world.edge.call(FN) != first
    assert await in_flight == first
    assert await world.edge.call(FunctionId(f"other.{HERE}")) == other
    assert world.secrets.values == {(HERE, "key"): b"new"}
    await world.settle()


async def test_a_changed_secret_does_not_wake_a_sleeping_function(world: World) -> None:
    await save(world, "key")
    await deploy(world, secrets=("key",))
    await save(world, "key", b"new")
    await world.settle()
    assert world.asleep() and world.node.started == []


async def test_a_changed_secret_replaces_instances_of_a_function_that_must_not_sleep(world: World) -> None:
    await save(world, "key")
    await deploy(world, secrets=("key",), labels={"com.openfaas.scale.min": "2"})
    await world.until(lambda: not world.asleep() and len(world.instances()) == 2)
    before = set(world.instances())
    await save(world, "key", b"new")
    await world.settle()
    assert len(world.instances()) == 2 and not before & set(world.instances())


async def test_an_instance_that_started_with_the_old_value_does_not_serve(world: World) -> None:
    await save(world, "key", b"old")
    await deploy(world, secrets=("key",))
    world.node.start_delay = 5.0
    call = asyncio.create_task(world.edge.call(FN))
    await asyncio.sleep(1.0)
    await save(world, "key", b"new")
    await call
    before, after = world.node.started
    assert (before.revision, after.revision, after.generation - before.generation) == (1, 1, 1)
    assert [str(instance) for instance in world.instances()] == [world.node.started[1].instance]
    await world.settle()


async def test_the_next_controller_does_not_adopt_an_instance_with_the_old_value(world: World) -> None:
    await save(world, "key", b"old")
    await deploy(world, secrets=("key",))
    first = await world.edge.call(FN)
    await save(world, "key", b"new")
    again = await world.restart_controller()  # while the old instance drains
    assert await again.edge.call(FN) != first
    await again.settle()
    await again.close()


@pytest.mark.parametrize("secrets", [("key",), ()])
async def test_a_changed_secret_does_not_undo_a_concurrent_deployment(
    world: World, monkeypatch: pytest.MonkeyPatch, secrets: tuple[str, ...]
) -> None:
    save_function = world.store.save_function

    async def slowly(function: Function, **options: Any) -> None:
        await asyncio.sleep(0.01)
        await save_function(function, **options)

    monkeypatch.setattr(world.store, "save_function", slowly)
    await save(world, "key")
    await deploy(world, secrets=("key",))
    await asyncio.gather(deploy(world, secrets=secrets, env_vars={"NEW": "1"}), save(world, "key", b"new"))
    [kept] = await world.store.functions()
    assert kept == world.fleet.entries[FN].function
    assert (kept.spec.secrets, kept.spec.env_vars) == (secrets, {"NEW": "1"})


async def test_create_and_update_of_a_secret_differ(world: World) -> None:
    with pytest.raises(NotFound):
        await world.function_secrets.save_secret(HERE, "key", b"x", must_exist=True)
    await world.function_secrets.save_secret(HERE, "key", b"x", must_exist=False)
    with pytest.raises(Conflict):
        await world.function_secrets.save_secret(HERE, "key", b"y", must_exist=False)
    assert world.secrets.values == {(HERE, "key"): b"x"}


async def test_of_two_concurrent_creations_of_a_secret_one_is_a_conflict(world: World) -> None:
    results = await asyncio.gather(
        *(world.function_secrets.save_secret(HERE, "key", b"x", must_exist=False) for _ in range(2)),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [tuple, Conflict]


async def test_the_size_and_number_of_secrets_are_bounded(world: World) -> None:
    with pytest.raises(TooLarge):
        await save(world, "key", bytes(MAX_SECRET + 1))
    for number in range(MAX_NAMESPACE_SECRETS):
        await world.secrets.save(HERE, f"s{number}", b"x")
    with pytest.raises(InvalidInput, match="already has the 1000 secrets"):
        await save(world, "one-more")
    await save(world, "s0", b"new")


# -- removing


async def test_a_secret_that_functions_name_cannot_be_removed_and_the_error_lists_them(world: World) -> None:
    await save(world, "key")
    for number in range(7):
        await deploy(world, f"fn{number}", secrets=("key",))
    with pytest.raises(Conflict, match=r"used by fn0, fn1, fn2, fn3, fn4 and 2 more: first remove these functions"):
        await world.function_secrets.delete_secret(HERE, "key")
    for number in range(7):
        await deploy(world, f"fn{number}")
    await world.function_secrets.delete_secret(HERE, "key")
    assert await world.function_secrets.secrets(HERE) == []
    with pytest.raises(NotFound):
        await world.function_secrets.delete_secret(HERE, "key")


async def test_a_secret_is_not_removed_during_a_deployment_that_names_it(world: World) -> None:
    await save(world, "key")
    deploying = asyncio.create_task(deploy(world, secrets=("key",)))
    await asyncio.sleep(0)
    with pytest.raises(Conflict):
        await world.function_secrets.delete_secret(HERE, "key")
    await deploying


async def test_removing_a_namespace_removes_its_secrets(world: World) -> None:
    blue = Namespace("blue", {}, {})
    await world.namespaces.save(blue, must_exist=False)
    await save(world, "key", namespace="blue")
    await deploy(world, namespace="blue", secrets=("key",))
    with pytest.raises(InvalidInput, match="still holds functions"):
        await world.namespaces.delete("blue")
    await world.removals.remove(FunctionId("fn.blue"))
    await world.namespaces.delete("blue")
    with pytest.raises(NotFound):
        await world.function_secrets.secrets("blue")
    await world.namespaces.save(blue, must_exist=False)
    assert await world.function_secrets.secrets("blue") == []


async def test_a_namespace_has_the_annotation_of_openfaas(world: World) -> None:
    assert world.namespaces.get(HERE) == Namespace(HERE, {}, {"openfaas": "1"})
    await world.namespaces.save(Namespace("blue", {"a": "b"}, {"c": "d"}), must_exist=False)
    again = await world.restart_controller()
    assert again.namespaces.get("blue") == Namespace("blue", {"a": "b"}, {"c": "d", "openfaas": "1"})
    assert again.namespaces.names() == ["blue", HERE]
    await again.close()


async def test_the_labels_of_the_default_namespace_are_kept(world: World) -> None:
    await world.namespaces.save(Namespace(HERE, {"a": "b"}, {}), must_exist=True)
    again = await world.restart_controller()
    assert (again.namespaces.get(HERE)).labels == {"a": "b"}
    await again.close()
