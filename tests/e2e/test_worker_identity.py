"""A hostile function looks for its worker's key and its pool's secret, at both levels of isolation."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rescoldo.isolation import landlock
from rescoldo.model.deployed import Deployed
from rescoldo.model.function import Function, FunctionSpec
from support import spy
from support.archives import bundle_archive
from support.served_control import ServedControl
from support.unprivileged import UID, interpreter, readable_library
from support.worker import LiveWorker, UnprivilegedWorker

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user"),
    pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv"),
]

PARTS = ("guardian", "supervisor", "edge", "controller", "node", "zygote")
SPY = Path(spy.__file__)


@pytest.fixture
def control(tmp_path: Path) -> Iterator[ServedControl]:
    found = ServedControl(tmp_path)
    with found.serving():
        digest = found.put("bundles", bundle_archive(SPY.read_text()))
        document = Deployed(Function(FunctionSpec("spy", "spy:1"), digest, 1.0, 1))
        found.ask(lambda: found.memory.documents.put(document))
        yield found


@contextmanager
def unprivileged(control: ServedControl, folder: Path) -> Iterator[UnprivilegedWorker]:
    python = interpreter()
    if python is None:
        pytest.skip("this Python is in a folder that only root may enter")
    if not landlock.abi():
        pytest.skip("without Landlock a worker does not start at this level")
    identity = control.identity(folder)
    for path in (identity, *identity.iterdir()):
        os.chown(path, UID, UID)
    identity.chmod(0o500)
    with readable_library() as library, UnprivilegedWorker(library, python, control.url, identity) as live:
        yield live


def wanted(live: LiveWorker | UnprivilegedWorker) -> str:
    pids = [live.pid(part) for part in PARTS]
    return json.dumps({"identity": live.settings.identity, "run": live.settings.run, "pids": pids})


def outside_of_sandboxes(live: UnprivilegedWorker) -> set[str]:
    same_user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", live.python, "-c", SPY.read_text()]
    done = subprocess.run(same_user, input=wanted(live), capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_at_the_level_full_a_function_gains_nothing(control: ServedControl, tmp_path: Path) -> None:
    with LiveWorker(control.url, control.identity(tmp_path / "pool")) as live:
        answer = live.invoke("spy", wanted(live))
        assert (answer.status, json.loads(answer.text)) == (200, [])


def test_at_the_level_unprivileged_a_function_gains_nothing_that_its_user_has(control: ServedControl) -> None:
    folder = Path(f"/tmp/rl-identity-{os.getpid()}")  # that user may not enter pytest's folders
    try:
        with unprivileged(control, folder) as live:
            answer = live.invoke("spy", wanted(live))
            assert (answer.status, json.loads(answer.text)) == (200, [])
            gained = outside_of_sandboxes(live)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    # nothing but the sandbox keeps that user from them
    assert {f"{folder}/tls.key", f"{folder}/pool-secret", "edge/admin.sock", "s/api.sock", "node.sock"} <= gained
    assert any(one.endswith("/mem") for one in gained)
