"""Tries whether a new installation works: its door, its password, a function that is deployed and called."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.installer import run_installer
from rescoldo.cli.deployment import deploy, function_url, remove, upload
from rescoldo.cli.gateway import Gateway
from rescoldo.cli.output import note
from rescoldo.model.errors import RescoldoError
from rescoldo.model.function import FunctionSpec

PROBE = "rescoldo-probe"  # an image and a function of this name
POLL_SECONDS = 0.25
NOT_YET = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Probed:
    """How a probe function answered."""

    text: str
    milliseconds: float  # of its first call, from here


def wait_for_gateway(gateway: Gateway, patience: float) -> None:
    """Return when /healthz answers. Raises RescoldoError after `patience` seconds."""
    ends = time.monotonic() + patience
    while not gateway.answers(timeout=2.0):
        if time.monotonic() >= ends:
            raise RescoldoError(f"{gateway.url}/healthz does not answer after {patience:g} s")
        time.sleep(POLL_SECONDS)


def check_login(gateway: Gateway, patience: float) -> None:
    """Return when control takes the password. Raises RescoldoError if it refuses it, or does not answer in time.

    A control that was just replaced has answered its probe before all gateways have noticed that it is there.
    """
    ends = time.monotonic() + patience
    while (status := _system_status(gateway)) in NOT_YET:
        if time.monotonic() >= ends:
            raise RescoldoError(f"{gateway.url}/system answers {status} after {patience:g} s: control is not reached")
        time.sleep(POLL_SECONDS)
    if status == 401:
        raise RescoldoError(
            f"{gateway.url} does not take the password of the secret rescoldo-login: control uses another one; restart "
            "it with: kubectl rollout restart deployment rescoldo-control"
        )


def _system_status(gateway: Gateway) -> int:
    return gateway.system("GET", "/system/functions", accept=(200, 401, *NOT_YET)).status_code


def probe(gateway: Gateway) -> Probed:
    """Deploy a function, call it, and remove it. Raises RescoldoError if it does not answer."""
    import rescoldo.install

    spec = FunctionSpec(name=PROBE, image=PROBE)
    folder = Path(rescoldo.install.__file__).parent / "probe"
    with tempfile.TemporaryDirectory(prefix="rescoldo-probe-") as out:
        request = BuildRequest(PROBE, "python3-http", "http", folder, folder)
        bundle = build(request, Path(out), lambda line: None, run_installer)
        upload(gateway, PROBE, bundle.path, lambda line: None)
    try:
        deploy(gateway, spec, update=True, replace=False)
        return _call(gateway, function_url(gateway, spec))
    finally:
        try:
            remove(gateway, PROBE, spec.namespace, missing_ok=True)
        except RescoldoError as error:
            note(f"the function {PROBE} could not be removed: {error.message}")


def _call(gateway: Gateway, url: str) -> Probed:
    begin = time.perf_counter()
    with gateway.stream("GET", url) as answer:
        text = answer.read().decode(errors="replace")
        took = (time.perf_counter() - begin) * 1000
        if answer.status_code != 200:
            raise RescoldoError(f"the function {PROBE} answered {answer.status_code}: {text.strip()[:500]}")
    return Probed(text, took)
