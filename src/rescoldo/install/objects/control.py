"""Control: its volume, its Service, its one pod."""

from __future__ import annotations

from rescoldo.install.names import (
    API_PORT,
    CONTROL,
    FUNCTION_NAMESPACES,
    GATEWAY_URL,
    KEEP,
    LINK_PORT,
    POOL,
    SYSTEM,
    meta,
    selector,
)
from rescoldo.install.objects.pods import (
    TOKEN,
    container,
    deployment,
    http_probe,
    memory_folder,
    mount,
    pod,
    token,
)
from rescoldo.install.placeholders import Each, Field, Text, Tree, Variable, When

PERSISTENT = Field("control.storage.persistent")
END_SECONDS = 30  # for requests in flight and the last write


def control() -> list[Tree]:
    """Return control's objects. `Recreate`: two would write the same volume and sign with the same authority."""
    spec: dict[str, Tree] = {"replicas": 1, "strategy": {"type": "Recreate"}, "revisionHistoryLimit": 3}
    return [When(PERSISTENT, [_volume()]), _service(), deployment(CONTROL, "control", SYSTEM, _pod(), spec)]


def default_flags() -> list[Tree]:
    """Return the flags for functions without limits of their own, which control and workers share."""
    name, given = Variable("flag"), Variable("given")
    return [Each(Field("functionDefaults"), (name, given), [Text("--default-{}={}", (name, given))])]


def _volume() -> dict[str, Tree]:
    name = Field("control.storage.className")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": meta(CONTROL, "control") | {"annotations": dict(KEEP)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": When(name, name),
            "resources": {"requests": {"storage": Field("control.storage.size")}},
        },
    }


def _service() -> dict[str, Tree]:
    address = Field("control.clusterIP")
    ports: list[Tree] = [
        {"name": "api", "port": API_PORT, "targetPort": "api"},
        {"name": "link", "port": LINK_PORT, "targetPort": "link"},
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta(CONTROL, "control"),
        "spec": {"clusterIP": When(address, address), "selector": selector("control"), "ports": ports},
    }


def _pod() -> dict[str, Tree]:
    group = Field("control.fsGroup")
    args: list[Tree] = [
        *("kubernetes", "control", "--data", "/data"),
        *("--api-address", f"0.0.0.0:{API_PORT}", "--link-address", f"0.0.0.0:{LINK_PORT}"),
        *("--system-namespace", SYSTEM),
        Each(FUNCTION_NAMESPACES, (POOL,), ["--namespace", POOL]),
        *("--gateway", GATEWAY_URL),
        *("--workers-isolation", Field("worker.isolation"), "--builds", Text("{}", (Field("build.concurrent"),))),
        *("--build-timeout", Text("{}s", (Field("build.timeoutSeconds"),))),
        *default_flags(),
    ]
    more: dict[str, Tree] = {
        "ports": [{"name": "api", "containerPort": API_PORT}, {"name": "link", "containerPort": LINK_PORT}],
        "startupProbe": http_probe("api", 1, 120),  # a volume may take its time
        "readinessProbe": http_probe("api", 2, 2),
        "livenessProbe": http_probe("api", 10, 6),
        "volumeMounts": [
            mount("data", "/data"),
            mount("tmp", "/tmp"),
            mount("memory", "/dev/shm"),
            mount("token", TOKEN, read_only=True),
        ],
    }
    volume = When(
        PERSISTENT,
        [{"name": "data", "persistentVolumeClaim": {"claimName": CONTROL}}],
        [{"name": "data", "emptyDir": {"sizeLimit": Field("control.storage.size")}}],
    )
    return pod(
        "control",
        "control",
        {
            "serviceAccountName": CONTROL,
            "terminationGracePeriodSeconds": END_SECONDS,
            "securityContext": When(group, {"fsGroup": group}),
            "containers": [container("control", args, "control.resources", more)],
            "volumes": [volume, {"name": "tmp", "emptyDir": {}}, memory_folder("memory", "64Mi"), token()],
        },
    )
