"""All ports of the API in one in-memory object: it keeps what it receives and answers from it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rescoldo.api.protocol import Platform
from rescoldo.control.deploy.builds import BuildStep
from rescoldo.kinds.deployment import check_spec, notes_of
from rescoldo.model.calls import FailedCall
from rescoldo.model.errors import Conflict, InvalidInput, NotFound, NotStarted, RolloutFailed, UnknownImage
from rescoldo.model.explanation import Explanation, Look, Step
from rescoldo.model.function import Function, FunctionSpec, FunctionStatus
from rescoldo.model.instance import LogLine
from rescoldo.model.names import DEFAULT_NAMESPACE, FunctionId, InstanceId, check_name, split_id
from rescoldo.model.revision import Revision, RevisionStatus, check_traffic
from rescoldo.model.secret import check_secret
from rescoldo.model.standing import State
from rescoldo.policy.notes import UNPRIVILEGED
from rescoldo.store.protocol import Bundle, Namespace

WHY = Explanation(
    wanted=2, running=1, starting=1, minimum=1, maximum=20, metric="concurrency", target=32.0, utilization=0.7,
    windows=(60.0, 6.0), look=Look(0.25, 2, "requests queue", "the maximum: 20", 20.5, 33.0, True, 4),
    steps=(Step(12.0, 1, 2, "requests queue"),), sleep="10 s after its last request ends",
)


class FakePlatform:
    def __init__(self) -> None:
        self.deployed: dict[FunctionId, FunctionStatus] = {}
        self.images: dict[str, Bundle] = {}
        self.layers: set[str] = set()
        self.spaces: dict[str, Namespace] = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE, {}, {})}
        self.kept_secrets: dict[tuple[str, str], bytes] = {}  # by namespace and name
        self.secret_notes: Sequence[str] = ()  # which a change of a secret returns
        self.lines: list[LogLine] = []
        self.asked: list[tuple[FunctionId, object]] = []  # rollbacks and splits
        self.is_worker = False  # of a cluster
        self.kept: list[FunctionId] = []
        self.starts: list[tuple[bool, float]] = []  # for each deployment: does it start, how long does the client wait
        self.log_queries: list[dict[str, Any]] = []
        self.uploading = False  # the first bytes of an upload have arrived
        self.built: list[bytes] = []  # archives that arrived complete
        self.build_steps = [BuildStep("in_progress", "", "one"), BuildStep("success", "acme/f:1")]
        self.failures: list[FailedCall] = []
        self.followers = 0  # open `follow` streams
        self.new_line = asyncio.Condition()
        self.troubles: list[str] = []
        self.architecture = "x86_64"
        self.failure: Exception | None = None  # `report` and `scale` raise it, and logs after the last line

    def ports(self) -> Platform:
        """This object for each port of the API; named one by one, so that mypy checks it against each."""
        return Platform(
            statuses=self,
            deployments=self,
            removals=self,
            pauses=self,
            scaling=self,
            revisions=self,
            traffic=self,
            images=self,
            builds=self,
            namespaces=self,
            secrets=self,
            logs=self,
            overview=self,
            upkeep=self if self.is_worker else None,
        )

    async def keep(self, function: FunctionId) -> None:
        self._find(function)
        self.kept.append(function)

    def problems(self) -> list[str]:
        return self.troubles

    def functions(self, namespace: str) -> list[FunctionStatus]:
        return [self.deployed[key] for key in sorted(self.deployed) if split_id(key)[1] == namespace]

    async def function(self, function: FunctionId, *, usage: bool = False, why: bool = False) -> FunctionStatus:
        status = self._find(function)
        status = replace(status, notes=self.notes(status.function.spec))
        if why:
            status = replace(status, why=WHY)
        return replace(status, cpu=12, memory=3_000_000, failures=self.failures) if usage else status

    async def deploy(self, spec: FunctionSpec, *, must_exist: bool, start: bool = True, patience: float = 0.0) -> bool:
        check_spec(spec)
        self.starts.append((start, patience))
        if missing := set(spec.secrets) - set(await self.secrets(spec.namespace)):
            raise InvalidInput(f"no secret {sorted(missing)}")
        if must_exist:
            self._find(spec.id)
        if spec.namespace not in self.spaces:
            raise NotFound(f"namespace {spec.namespace!r} does not exist")
        if spec.image.startswith("unknown"):
            raise UnknownImage
        function = Function(spec, "d" * 64, 1_700_000_000.25)
        failing = spec.env_vars.get("FAIL", "")
        state = State.FAILING if failing else State.READY
        count = 0 if failing else 1
        self.deployed[spec.id] = FunctionStatus(
            function, count, count, 42, policy=check_spec(spec), state=state, reason=failing
        )
        if failing and patience:
            raise NotStarted(f"{spec.id} did not start: {failing}")
        return "SLOW" not in spec.env_vars

    def notes(self, spec: FunctionSpec) -> list[str]:
        return notes_of(spec, UNPRIVILEGED)

    async def pause(self, function: FunctionId) -> None:
        self.deployed[function] = replace(self._find(function), state=State.PAUSED)

    async def resume(self, function: FunctionId) -> None:
        self.deployed[function] = replace(self._find(function), state=State.ASLEEP)

    async def remove(self, function: FunctionId) -> None:
        self._find(function)
        del self.deployed[function]

    async def roll_back(self, function: FunctionId, revision: int | None) -> int:
        self._find(function)
        if revision == 9:
            raise RolloutFailed("revision 6 did not start")
        self.asked.append((function, revision))
        return 6

    async def split(self, function: FunctionId, shares: Mapping[int, int]) -> None:
        self._find(function)
        self.asked.append((function, check_traffic(shares)))

    async def revisions(self, function: FunctionId) -> list[RevisionStatus]:
        past = Revision(1, self._find(function).function.spec, "a" * 64, 1_700_000_000.5)
        failed = replace(past, number=2, failure="exit code 1\nValueError: no")
        return [RevisionStatus(failed, False, 0, 0), RevisionStatus(past, True, 100, 2)]

    async def scale(self, function: FunctionId, replicas: int) -> None:
        status = self._find(function)
        if self.failure is not None:
            raise self.failure
        self.deployed[function] = replace(status, replicas=replicas)

    def named(self, image: str | None) -> list[Bundle]:
        return [bundle for name, bundle in sorted(self.images.items()) if image in (None, name)]

    async def add(self, image: str, body: AsyncIterator[bytes], digest: str | None) -> Bundle:
        data = b""
        async for chunk in body:
            self.uploading = True
            data += chunk
        actual = hashlib.sha256(data).hexdigest()
        if digest not in (None, actual):
            raise InvalidInput("the digest does not match")
        self.images[image] = Bundle(image, actual, len(data), 1_700_000_000.0, 1)
        return self.images[image]

    async def tag(self, image: str, digest: str) -> Bundle:
        for bundle in self.images.values():
            if bundle.digest == digest:
                self.images[image] = replace(bundle, image=image)
                return self.images[image]
        raise NotFound("no bundle with this digest is here")

    def has_layer(self, digest: str) -> bool:
        return digest in self.layers

    async def add_layer(self, body: AsyncIterator[bytes], digest: str | None) -> str:
        data = b"".join([chunk async for chunk in body])
        actual = hashlib.sha256(data).hexdigest()
        if digest not in (None, actual):
            raise InvalidInput("the digest does not match")
        self.layers.add(actual)
        return actual

    async def build(self, body: AsyncIterator[bytes], namespace: str) -> AsyncGenerator[BuildStep, None]:
        self.built.append(b"".join([chunk async for chunk in body]))
        return self._build()

    async def _build(self) -> AsyncGenerator[BuildStep, None]:
        for step in self.build_steps:
            yield step

    def names(self) -> list[str]:
        return sorted(self.spaces)

    def get(self, name: str) -> Namespace:
        if name not in self.spaces:
            raise NotFound(f"namespace {name!r} does not exist")
        return self.spaces[name]

    async def save(self, namespace: Namespace, *, must_exist: bool) -> None:
        check_name(namespace.name, "namespace")
        if must_exist:
            self.get(namespace.name)
        elif namespace.name in self.spaces:
            raise Conflict(f"namespace {namespace.name!r} exists already")
        self.spaces[namespace.name] = namespace

    async def delete(self, name: str) -> None:
        self.get(name)
        if name == DEFAULT_NAMESPACE:
            raise InvalidInput("the default namespace cannot be removed")
        del self.spaces[name]

    async def secrets(self, namespace: str) -> list[str]:
        self.get(namespace)
        return sorted(name for space, name in self.kept_secrets if space == namespace)

    async def save_secret(self, namespace: str, name: str, value: bytes, *, must_exist: bool) -> Sequence[str]:
        check_secret(name, value)
        exists = name in await self.secrets(namespace)
        if must_exist and not exists:
            raise NotFound(f"secret {name!r} does not exist")
        if exists and not must_exist:
            raise Conflict(f"secret {name!r} exists already")
        self.kept_secrets[namespace, name] = value
        return self.secret_notes

    async def delete_secret(self, namespace: str, name: str) -> None:
        if name not in await self.secrets(namespace):
            raise NotFound(f"secret {name!r} does not exist")
        del self.kept_secrets[namespace, name]

    def read(
        self, function: FunctionId, *, tail: int | None, since: float | None, follow: bool, instance: str
    ) -> AsyncIterator[LogLine]:
        self._find(function)
        self.log_queries.append({"tail": tail, "since": since, "follow": follow, "instance": instance})
        return self._follow() if follow else self._kept()

    async def write_line(self, function: FunctionId, text: str) -> None:
        async with self.new_line:
            self.lines.append(LogLine(function, InstanceId("i-1"), 1_700_000_000.5, text))
            self.new_line.notify_all()

    async def metrics(self) -> bytes:
        return b'gateway_service_count{function_name="echo.openfaas-fn"} 1.0\n'

    async def report(self) -> Mapping[str, Any]:
        if self.failure is not None:
            raise self.failure
        return {"functions": len(self.deployed)}

    def _find(self, function: FunctionId) -> FunctionStatus:
        if function not in self.deployed:
            raise NotFound(f"function {function!r} does not exist")
        return self.deployed[function]

    async def _kept(self) -> AsyncIterator[LogLine]:
        for line in self.lines:
            yield line
        if self.failure is not None:
            raise self.failure

    async def _follow(self) -> AsyncIterator[LogLine]:
        self.followers += 1
        sent = 0
        try:
            while True:
                async with self.new_line:
                    while len(self.lines) == sent:
                        await self.new_line.wait()
                yield self.lines[sent]
                sent += 1
        finally:
            self.followers -= 1
