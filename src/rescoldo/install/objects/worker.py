"""Workers: a Deployment in each namespace of functions, whose pods are whole platforms without API credentials."""

from __future__ import annotations

from rescoldo.install.names import (
    CONTROL,
    FUNCTION_NAMESPACES,
    GATEWAY_URL,
    IDENTITY,
    LINK_PORT,
    METRICS_PORT,
    POOL,
    SYSTEM,
    TLS_PORT,
    TLS_PORT_NAME,
    WORKER,
    WORKER_PORT,
)
from rescoldo.install.objects.control import default_flags
from rescoldo.install.objects.pods import (
    CONTAINER_SECURITY,
    apart,
    container,
    deployment,
    disruption_budget,
    http_probe,
    memory_folder,
    mount,
    pod,
)
from rescoldo.install.placeholders import Each, Entry, Equal, Field, Not, Sum, Text, Tree, When
from rescoldo.install.values import END_SECONDS, FULL

TLS = Field("gateway.tlsToWorkers")
IDENTITY_FOLDER = "/etc/rescoldo/identity"
# A new worker before an old one goes: its namespace always has as many as were asked for.
ROLL_OUT: Tree = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
# Root in the pod's own user namespace: no root of the node. See tests/kubernetes/test_security_contexts.py. It says all
# that CONTAINER_SECURITY says, since server-side apply leaves what another tool has set and this one does not mention.
OWN_ROOT: dict[str, Tree] = {
    "allowPrivilegeEscalation": True,
    "readOnlyRootFilesystem": False,
    "runAsNonRoot": False,
    "runAsUser": 0,
    "runAsGroup": 0,
    "capabilities": {"drop": [], "add": ["SYS_ADMIN"]},
    "seccompProfile": {"type": "Unconfined"},
}


def workers() -> list[Tree]:
    """Return the workers of each namespace of functions."""
    spec: dict[str, Tree] = {
        "replicas": Entry(Field("worker.replicasIn"), POOL, Field("worker.replicas")),
        "strategy": ROLL_OUT,
        "minReadySeconds": Field("worker.minReadySeconds"),
        "revisionHistoryLimit": 3,
    }
    budget = disruption_budget(WORKER, "worker", POOL)
    each: list[Tree] = [
        deployment(WORKER, "worker", POOL, _pod(), spec),
        When(Field("disruptionBudgets"), [budget]),
    ]
    return [Each(FUNCTION_NAMESPACES, (POOL,), each)]


def _args() -> list[Tree]:
    stale = Field("worker.maxStale")
    return [
        *("serve", "--data", "/data"),
        *("--gateway-address", f"0.0.0.0:{WORKER_PORT}", "--metrics-address", f"0.0.0.0:{METRICS_PORT}"),
        *("--join", Text(f"https://{CONTROL}.{{}}.svc:{LINK_PORT}", (SYSTEM,))),
        *("--namespace", POOL, "--identity", IDENTITY_FOLDER, "--functions-gateway", GATEWAY_URL),
        *("--drain", Text("{}s", (Field("worker.drainSeconds"),))),
        *("--drain-timeout", Text("{}s", (Field("worker.drainTimeoutSeconds"),))),
        When(TLS, ["--gateways-tls-address", f"0.0.0.0:{TLS_PORT}"]),
        When(stale, ["--max-stale", stale]),
        When(Field("worker.allowWithoutLandlock"), ["--allow-without-landlock"]),
        *default_flags(),
    ]


def _pod() -> dict[str, Tree]:
    user = Field("runAsUser")
    more: dict[str, Tree] = {
        "ports": [
            {"name": "http", "containerPort": WORKER_PORT},
            {"name": "metrics", "containerPort": METRICS_PORT},
            When(TLS, [{"name": TLS_PORT_NAME, "containerPort": TLS_PORT}]),
        ],
        # the port of the metrics answers whatever the load of the other one is, and with 404 while a worker drains
        "startupProbe": http_probe("metrics", 1, 60),
        "readinessProbe": http_probe("metrics", 2, 2),
        "livenessProbe": http_probe("metrics", 10, 6),
        "securityContext": When(
            Equal(Field("worker.isolation"), FULL), OWN_ROOT, {**CONTAINER_SECURITY, "runAsUser": When(user, user)}
        ),
        "volumeMounts": [
            mount("data", "/data"),
            mount("memory", "/dev/shm"),  # sockets, secrets and the run folder (model/rundir.py)
            mount("tmp", "/tmp"),
            mount("identity", IDENTITY_FOLDER, read_only=True),
        ],
    }
    return pod(
        "worker",
        "worker",
        {
            "serviceAccountName": WORKER,
            "hostUsers": When(Not(Field("worker.hostUsers")), False),
            "terminationGracePeriodSeconds": Sum(Field("worker.drainTimeoutSeconds"), END_SECONDS),
            "affinity": apart("worker"),
            "containers": [container("worker", _args(), "worker.resources", more)],
            "volumes": [
                {"name": "data", "emptyDir": {"sizeLimit": Field("worker.dataSize")}},
                memory_folder("memory", Field("worker.memoryFilesSize")),
                {"name": "tmp", "emptyDir": {}},
                {"name": "identity", "secret": {"secretName": IDENTITY}},  # the pod waits until control has made it
            ],
        },
    )
