"""Builds: a PodTemplate in each namespace of functions, of which control makes a pod for each build.

Packages' code runs in these pods. So they are as restricted as workers, have an account without rights and no token,
and no secret but the certificate of their build, which control puts in place of the template's.
"""

from __future__ import annotations

from rescoldo.install.names import BUILD, CONTROL, FUNCTION_NAMESPACES, LINK_PORT, POOL, SYSTEM, meta
from rescoldo.install.objects.pods import container, mount, pod
from rescoldo.install.placeholders import Each, Field, Sum, Text, Tree, Variable, When

IDENTITY_FOLDER = "/etc/rescoldo/identity"
LATER_SECONDS = 60  # control ends a build first; this ends the pod of a control that was killed


def builds() -> list[Tree]:
    """Return the template of each namespace."""
    template: dict[str, Tree] = {
        "apiVersion": "v1",
        "kind": "PodTemplate",
        "metadata": meta(BUILD, "build", POOL),
        "template": _pod(),
    }
    return [When(Field("build.enabled"), [Each(FUNCTION_NAMESPACES, (POOL,), [template])])]


def _pod() -> dict[str, Tree]:
    name, value = Variable("name"), Variable("value")
    size = Field("build.workSize")
    args: list[Tree] = [
        *("kubernetes", "build", "--control", Text(f"https://{CONTROL}.{{}}.svc:{LINK_PORT}", (SYSTEM,))),
        *("--identity", IDENTITY_FOLDER, "--work", "/work"),
    ]
    more: dict[str, Tree] = {
        "env": [
            {"name": "HOME", "value": "/work/home"},
            {"name": "TMPDIR", "value": "/work/tmp"},
            Each(Field("build.env"), (name, value), [{"name": name, "value": Text("{}", (value,))}]),
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError",  # control tells the client what the pod said last
        "volumeMounts": [
            mount("work", "/work"),
            mount("tmp", "/tmp"),
            mount("identity", IDENTITY_FOLDER, read_only=True),
        ],
    }
    return pod(
        "build",
        "build",
        {
            "serviceAccountName": BUILD,
            "restartPolicy": "Never",
            "activeDeadlineSeconds": Sum(Field("build.timeoutSeconds"), LATER_SECONDS),
            "terminationGracePeriodSeconds": 1,  # nothing in it is worth waiting for
            "containers": [container("build", args, "build.resources", more)],
            "volumes": [
                {"name": "work", "emptyDir": {"sizeLimit": size}},
                {"name": "tmp", "emptyDir": {"sizeLimit": size}},
                {"name": "identity", "secret": {"secretName": BUILD}},  # control writes the build's own here
            ],
        },
    )
