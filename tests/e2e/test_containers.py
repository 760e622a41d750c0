"""Whole platforms of a root whose rights a container has reduced, at the level full."""

from __future__ import annotations

import json
import os

import pytest

from rescoldo.isolation.level import level
from rescoldo.model import ids
from support.live import Live
from support.rights import fewer_rights

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(level() != "full", reason="needs root that may make namespaces"),
]

POD = ["--ids", "65536", "--refuse", "pivot_root"]  # hostUsers: false, RuntimeDefault
WHO = "import os\ndef handle(event, context):\n    return f'{os.getuid()} {os.getgid()}'\n"


def ids_of(live: Live) -> tuple[int, int]:
    """Call the function `who`; return its uid and gid."""
    answer = live.invoke("who")
    assert answer.status == 200, answer.text + live.log()
    uid, gid = answer.text.split()
    return int(uid), int(gid)


def restart(live: Live, *options: str) -> None:
    """Start the platform again, with fewer rights."""
    assert live.stop() == 0, live.log()
    live.prefix = fewer_rights(*options) if options else []
    live.start()


def test_functions_wake_in_a_user_namespace_without_pivot_root_and_later_on_the_machine() -> None:
    pod, live = ids.choose("0 0 65536\n", "0 0 65536\n"), Live()
    live.prefix = fewer_rights(*POD)
    assert pod is not None
    with live:
        isolation = json.loads(live.system("GET", "/status").text)["isolation"]
        assert (isolation["level"], isolation["ports"]) == ("full", "shared")
        live.deploy("who", WHO)
        uid, gid = ids_of(live)
        assert uid in pod.instances and gid in pod.bundles
        live.sleep("who")
        assert ids_of(live)[0] in pod.instances
        restart(live)
        uid, gid = ids_of(live)
        assert uid in ids.INSTANCE_UIDS and gid in ids.BUNDLE_GIDS


def test_a_user_namespace_without_a_name_for_the_groups_of_bundles_is_told_so() -> None:
    with Live() as live:
        live.deploy("who", WHO)
        assert ids_of(live)[1] in ids.BUNDLE_GIDS
        assert live.stop() == 0
        live.prefix = fewer_rights(*POD)
        live.spawn()
        assert live.process is not None and live.process.wait(60) == os.EX_CONFIG
        assert "groups that do not exist in this user namespace" in live.log()
        live.prefix = []
        live.start()
        assert ids_of(live)[1] in ids.BUNDLE_GIDS


def test_functions_wake_without_the_right_to_raise_priorities() -> None:
    live = Live()
    live.prefix = fewer_rights("--drop", "sys_nice")
    with live:
        live.deploy("who", WHO)
        for _ in range(3):
            assert ids_of(live)[0] in ids.INSTANCE_UIDS
            live.sleep("who")
        assert live.log().count("root has no CAP_SYS_NICE here") == 1
