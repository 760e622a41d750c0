"""The installation that `make bench-kubernetes` measures, and what a measurement does with its functions."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import client
import kubernetes_node as node
from client import Reply
from rescoldo.install.values import amounts
from rows import Bar, Measurement, MeasurementFailed, Row, say
from support.gateway import PATIENCE, Answer
from support.installed import WORKERS, Installed
from support.testcluster import get, kubectl

Spec = Mapping[str, Any]  # what a deployment has besides its name

AWHILE = {"com.openfaas.scale.zero-duration": "10m"}  # labels: asleep when the measurement says so, and not before
AT_ONCE = 8  # requests to the API
CALM_SECONDS = 0.5
CALM = 0.1  # of a core, for all pods together
RAMP_SECONDS = 6.0  # gateways raise a new worker's weight over 4 s (gateway/config.py), in steps of a second
ASKED = 30  # names, by whose owners all workers show: one of two has none of 30 names in one of 500 million cases


class Cell(Installed):
    """The installation: control, two gateways, and as many workers as a measurement wants."""

    def set_up(self) -> None:
        """Install. Values are the usual ones, but for the memory that one worker with 240 awake functions needs."""
        self.install(worker={"resources": amounts("500m", "512Mi", "4Gi")})

    # -- workers

    def workers(self, number: int) -> None:
        """Have this number of workers, each with its full share of the functions."""
        if get("deployment", "rescoldo-worker", "-n", self.functions)["spec"]["replicas"] != number:
            say(f"changing to {number} workers")
            kubectl("scale", "deployment/rescoldo-worker", "-n", self.functions, f"--replicas={number}")
        self._wait_for_workers(number)
        time.sleep(RAMP_SECONDS)  # nothing tells that a ramp has ended
        self.wait_calm()

    def new_workers(self) -> None:
        """Replace all workers by new ones, and return as soon as gateways send calls to each of them."""
        number = len(self.pods("worker"))
        kubectl("delete", "pod", "-l", WORKERS, "-n", self.functions, "--wait=true", "--timeout=90s")
        self._wait_for_workers(number)

    def _wait_for_workers(self, number: int) -> None:
        def only_these() -> bool:
            found = get("pods", "-n", self.functions, "-l", WORKERS)["items"]
            return len(found) == number and self.all_ready("worker", number)

        self.until(only_these, f"{number} workers", 120)
        key = self._key()
        self.until(lambda: len(self._owners(key)) == number, "the gateway to use all workers", 60)

    def _key(self) -> str:
        keys = get("secret", "rescoldo-control-keys", "-n", self.system_namespace)["data"]
        return base64.b64decode(next(iter(keys.values()))).decode()

    def _owners(self, key: str) -> set[str]:
        """The workers that the gateway would give some functions to, which need not exist."""
        found = set()
        for number in range(ASKED):
            name = f"nobody-{number}"
            headers = {"X-Rescoldo-Control": key, "X-Rescoldo-Key": f"{name}.{self.functions}"}
            answer = self.call("GET", f"/-/owner/system/function/{name}", headers=headers)
            found |= set(answer.headers.get_all("X-Rescoldo-Worker", []))
        return found

    def folders(self, *parts: str) -> list[Path]:
        """The cgroups of the parts' pods."""
        return [node.folder_of(pod) for part in parts for pod in self.pods(part)]

    # -- functions

    @contextmanager
    def deployed(self, specs: Mapping[str, Spec], clients: int = AT_ONCE) -> Iterator[None]:
        """Deploy functions without a first start, for the length of a measurement."""
        self.deploy_all(specs, clients)
        say(f"{len(specs)} functions deployed")
        try:
            yield
        finally:
            self.remove(specs)

    def deploy_all(self, specs: Mapping[str, Spec], clients: int = AT_ONCE) -> None:
        def one(name: str) -> None:
            body = {"service": name, "labels": AWHILE, **specs[name]}
            self.expect(202, self.system("POST", "/functions?rollout=immediate", body))

        self.at_once(one, specs, clients)

    def remove(self, names: Iterable[str]) -> None:
        def one(name: str) -> None:
            self.expect(202, self.system("DELETE", "/functions", {"functionName": name}))

        self.at_once(one, names)

    def sleep_all(self, names: Iterable[str]) -> None:
        """Put functions to sleep; wait until their processes are gone and the pods are calm."""

        def one(name: str) -> None:
            body = {"serviceName": name, "replicas": 0}
            self.expect(202, self.system("POST", f"/scale-function/{name}", body))

        self.at_once(one, names)
        workers = self.folders("worker")
        self.until(lambda: not node.instances(workers), "all functions to sleep", 60)
        self.wait_calm()

    def at_once(self, work: Callable[[str], None], names: Iterable[str], clients: int = AT_ONCE) -> None:
        """Do `work` for each name, for `clients` names at a time."""
        with ThreadPoolExecutor(clients) as threads:
            list(threads.map(work, names))

    def expect(self, status: int, answer: Answer) -> None:
        """Raise MeasurementFailed unless the API answered with `status`."""
        if answer.status != status:
            raise MeasurementFailed(f"the API answered with {answer.status}: {answer.text[:300]}")

    # -- calls

    def url(self, name: str) -> str:
        return f"http://{self.host}:{self.port}/function/{name}"

    def get(self, name: str) -> Reply:
        """Call a function on a new connection. Raises MeasurementFailed unless it succeeds."""
        return client.get_ok(self.port, f"/function/{name}", self.host)

    def cold(self, name: str) -> Reply:
        """Call a function. Raises MeasurementFailed unless it was asleep and the call succeeds."""
        reply = self.get(name)
        if not reply.cold:
            raise MeasurementFailed(f"{name} was not asleep")
        return reply

    def listed(self) -> int:
        """The number of functions that the API lists; -1 while it does not answer."""
        try:
            answer = self.system("GET", "/functions")
        except OSError:
            return -1
        return len(json.loads(answer.text)) if answer.status == 200 else -1

    # -- rest

    def wait_calm(self) -> None:
        """Wait until all pods together use less than CALM of a core for CALM_SECONDS."""
        folders = self.folders("worker", "control", "gateway")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            before, begin = node.used_seconds(folders), time.monotonic()
            time.sleep(CALM_SECONDS)  # the observed span
            if node.used_seconds(folders) - before < CALM * (time.monotonic() - begin):
                return
        raise MeasurementFailed("the pods do not come to rest although nothing calls functions")


@dataclass(frozen=True, slots=True)
class CellMeasurement:
    """One thing to run: `measure(cell, quick)` returns the rows of `bars`, in their order. `needs` names commands that
    do not belong to this project."""

    name: str
    bars: tuple[Bar, ...]
    measure: Callable[[Cell, bool], list[Row]]
    needs: tuple[str, ...] = ()

    def on(self, cell: Cell) -> Measurement:
        """Return the measurement of this installation."""
        return Measurement(self.name, self.bars, partial(self.measure, cell), self.needs)


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Return the least and the greatest: "5.1 to 7.0"."""
    return f"{min(values):.{digits}f} to {max(values):.{digits}f}"
