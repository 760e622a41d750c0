"""Deploys the functions of a trace on a running platform, calls them, reads their instance seconds and removes them."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.installer import run_installer
from rescoldo.model.errors import InvalidInput, RescoldoError
from rescoldo.replay.client import Answer, Client
from rescoldo.replay.outcome import Setting
from rescoldo.replay.trace import Trace

Say = Callable[[str], None]  # shows a line about the progress

IMAGE = "rescoldo-replay:sleeper"
SLEEPER = Path(__file__).parent / "sleeper"
AT_ONCE = 8  # concurrent deployments and removals
SHORTEST_WINDOW = 0.05  # seconds; the shortest idle window that a platform accepts
STABLE_WINDOW, SHORTEST_STABLE_WINDOW = 60.0, 6.0  # seconds of the scaler: default and minimum
MARGIN = 5.0  # seconds that a call may take beyond the longest one of the trace
SECONDS_LINE = re.compile(rb'^rescoldo_instance_seconds_total\{function_name="([^"]+)"\} (\S+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Target:
    """A gateway and its login."""

    url: str
    authorization: str = ""  # value of the Authorization header
    tls: ssl.SSLContext | None = None  # checks the certificate of an https gateway


class Deployed:
    """The deployed functions of a trace."""

    def __init__(self, client: Client, trace: Trace, namespace: str) -> None:
        self._client = client
        self._ids = [f"{function.name}.{namespace}" for function in trace.functions]
        self._paths = [f"/function/{name}" for name in self._ids]

    async def call(self, place: int, seconds: float) -> Answer:
        """Call the function at index `place` of the trace; it runs for `seconds`."""
        return await self._client.call("POST", self._paths[place], body=b"%.6f" % seconds)

    async def instance_seconds(self) -> list[float]:
        """For each function, the seconds that its instances have existed until now, summed. Raises RescoldoError."""
        answer = await self._client.system("GET", "/metrics")
        _check(answer, "GET /metrics")
        told = {name.decode(): float(value) for name, value in SECONDS_LINE.findall(answer.body)}
        return [told.get(name, 0.0) for name in self._ids]


@asynccontextmanager
async def deployed(trace: Trace, setting: Setting, target: Target, speed: float, say: Say) -> AsyncIterator[Deployed]:
    """Deploy one function for each function of the trace, in a new namespace; remove all of it afterwards."""
    annotations = _annotations(setting, speed)
    namespace = f"replay-{secrets.token_hex(4)}"
    client = Client(target.url, authorization=target.authorization, tls=target.tls)
    longest = max(function.durations[-1] for function in trace.functions) / speed + MARGIN
    common = {"image": IMAGE, "namespace": namespace, "annotations": annotations,
              "envVars": {"exec_timeout": f"{longest:.3f}s"}}  # fmt: skip
    names = [function.name for function in trace.functions]
    try:
        await _upload(client)
        try:
            await _system(client, "POST", f"/system/namespace/{namespace}")
            say(f"Deploying {len(names)} functions in namespace {namespace}")
            await _each(names, lambda name: _system(client, "POST", "/system/functions", {"service": name, **common}))
            yield Deployed(client, trace, namespace)
        finally:
            await _remove(client, names, namespace, say)
    finally:
        client.close()


def _annotations(setting: Setting, speed: float) -> dict[str, str]:
    """The functions' annotations, with the idle window and the scaler's window divided by the speed. Raises
    InvalidInput when the idle window gets too short."""
    window = setting.window / speed
    if window < SHORTEST_WINDOW:
        raise InvalidInput(
            f"--window {setting.window:g}s at --speed {speed:g} is {window:g} s on the platform, whose shortest is "
            f"{SHORTEST_WINDOW:g} s; use --window {SHORTEST_WINDOW * speed:g}s or more, or less speed"
        )
    return {
        "rescoldo.dev/rollout": "immediate",  # only calls of the trace shall start instances
        "rescoldo.dev/idle-window": f"{window:.6f}s",
        "rescoldo.dev/concurrency": str(setting.concurrency),
        "autoscaling.knative.dev/max-scale": str(setting.most),
        "autoscaling.knative.dev/window": f"{max(SHORTEST_STABLE_WINDOW, STABLE_WINDOW / speed):.3f}s",
    }


async def _upload(client: Client) -> None:
    """Build the sleeper's bundle and upload it."""

    def bundle() -> bytes:
        with tempfile.TemporaryDirectory(prefix="rescoldo-replay-") as folder:
            request = BuildRequest(IMAGE, "python3-http", "http", SLEEPER, SLEEPER.parent)
            return build(request, Path(folder), lambda line: None, run_installer).path.read_bytes()

    body = await asyncio.to_thread(bundle)
    path = f"/system/bundles?image={quote(IMAGE)}"
    _check(await client.system("POST", path, body, content_type="application/gzip"), f"POST {path}")


async def _remove(client: Client, names: list[str], namespace: str, say: Say) -> None:
    """Remove the functions and their namespace, also after an error or Ctrl-C; print failures instead of raising."""
    say(f"Removing namespace {namespace}")
    place = {"namespace": namespace}

    async def remove(name: str) -> None:
        await _system(client, "DELETE", "/system/functions", {"functionName": name, **place}, missing_ok=True)

    try:
        await _each(names, remove)
        await _system(client, "DELETE", f"/system/namespace/{namespace}", {"name": namespace}, missing_ok=True)
    except RescoldoError as error:
        say(f"Namespace {namespace} was not removed completely; remove the rest by hand: {error.message}")


async def _each(names: list[str], do: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run `do` for every name, AT_ONCE at a time; raise the first error once all started calls have ended."""
    left = iter(names)

    async def work() -> None:
        for name in left:
            await do(name)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(work())
    except* RescoldoError as errors:
        raise errors.exceptions[0] from None


async def _system(client: Client, method: str, path: str, data: object = None, *, missing_ok: bool = False) -> None:
    answer = await client.system(method, path, b"" if data is None else json.dumps(data).encode())
    if not (missing_ok and answer.status == 404):
        _check(answer, f"{method} {path}")


def _check(answer: Answer, what: str) -> None:
    if answer.status == 401:
        raise RescoldoError("unauthorized access to the gateway, run `rescoldo login`")
    if answer.status >= 300:
        raise RescoldoError(f"{what}: the gateway answered {answer.status}: {answer.text[:500]}")
