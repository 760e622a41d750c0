"""A platform in pods with other rights: it promises the level that they allow, and says what they do not."""

from __future__ import annotations

from typing import Any

import pytest

from support.gateway import TOKEN
from support.pods import RESTRICTED, PodPlatform, pod
from support.testcluster import apply

pytestmark = pytest.mark.slow

WRITABLE = {"readOnlyRootFilesystem": False}
UNCONFINED = {"seccompProfile": {"type": "Unconfined"}}
ROOT: dict[str, Any] = {"runAsUser": 0, "runAsGroup": 0, **WRITABLE}
OWN_USERS = {"hostUsers": False}


def with_capabilities(*names: str) -> dict[str, Any]:
    return {**ROOT, "capabilities": {"add": list(names)}}


def level(platform: PodPlatform) -> str:
    return str(platform.platform_status()["isolation"]["level"])


@pytest.mark.parametrize(
    "name, security, more, expected",
    [
        ("restricted-own-users", RESTRICTED, OWN_USERS, "unprivileged"),
        ("root-admin", {**with_capabilities("SYS_ADMIN"), **UNCONFINED}, {}, "full"),
        ("root-admin-default", with_capabilities("SYS_ADMIN"), {}, "full"),
        ("root-admin-own-users", {**with_capabilities("SYS_ADMIN"), **UNCONFINED}, OWN_USERS, "full"),
        ("privileged", {**ROOT, "privileged": True}, {}, "full"),
    ],
)
def test_functions_start_at_the_level_that_is_said(
    privileged_namespace: str, name: str, security: dict[str, Any], more: dict[str, Any], expected: str
) -> None:
    with PodPlatform(pod(privileged_namespace, name, security=security, spec=more)) as platform:
        assert level(platform) == expected
        platform.deploy("token", TOKEN)
        first = platform.invoke("token")
        assert first.status == 200, first.text
        platform.sleep("token")
        assert platform.invoke("token").text not in ("", first.text)


def test_a_root_without_rights_is_told_what_it_lacks(privileged_namespace: str) -> None:
    platform = PodPlatform(pod(privileged_namespace, "root", security=ROOT))
    apply(platform.manifest)
    platform.until(lambda: platform.ended(), "the platform to end")
    said = platform.log()
    platform.delete("--grace-period=0", "--force")
    assert "unshare" in said, said
    assert "another user" in said, said
