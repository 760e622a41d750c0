"""The values of an installation: what `values.yaml` of the chart has, and `--values` and `--set` change.

Each field is a key in camel case (`min_ready_seconds`: `minReadySeconds`), annotated with its comment.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from rescoldo.model.errors import InvalidInput
from rescoldo.model.names import DEFAULT_NAMESPACE, check_name

SYSTEM = "rescoldo"  # the namespace of gateways and control
END_SECONDS = 25  # after draining: until all functions have ended, and the platform
FULL = "full"  # isolation
MOST_BUILDS, DAY = 12, 86400  # as control's flags allow

Table = Mapping[str, Any]  # as Kubernetes wants it; this program does not look into it


def amounts(cpu: str, memory: str, most: str) -> dict[str, Any]:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"memory": most}}


@dataclass(frozen=True, slots=True)
class PodValues:
    """Where pods run, and what they carry."""

    node_selector: Annotated[Table, "Labels of the nodes that these pods may run on."] = field(default_factory=dict)
    tolerations: Annotated[Sequence[Table], "Taints of nodes that these pods tolerate."] = ()
    priority_class_name: Annotated[str, "Priority class; empty: the cluster's default."] = ""
    topology_spread_constraints: Annotated[Sequence[Table], "Constraints, each with its labelSelector."] = ()
    annotations: Annotated[Table, "Annotations of the pods."] = field(default_factory=dict)
    host_aliases: Annotated[Sequence[Table], "Entries of /etc/hosts, where the cluster has no DNS."] = ()


@dataclass(frozen=True, slots=True)
class Storage:
    """Control's volume: bundles and counts."""

    persistent: Annotated[
        bool, "false: files that last as long as the pod; after its end all functions have to be deployed again."
    ] = True
    class_name: Annotated[str, "Storage class; empty: the cluster's default."] = ""
    size: Annotated[str, "Size. Bundles of functions need most of it."] = "1Gi"


@dataclass(frozen=True, slots=True)
class ControlValues:
    """Control: the API, one replica."""

    resources: Annotated[Table, "Requests and limits of its container."] = field(
        default_factory=lambda: amounts("100m", "128Mi", "512Mi")
    )
    storage: Annotated[Storage, "Its volume: bundles and counts."] = field(default_factory=Storage)
    fs_group: Annotated[int | None, "Group that may write the volume; null on OpenShift, which chooses one."] = 10001
    cluster_ip: Annotated[str, "Fixed address of its Service; empty: the cluster chooses one."] = ""
    pod: Annotated[PodValues, "Where its pod runs, and what it carries."] = field(default_factory=PodValues)


@dataclass(frozen=True, slots=True)
class ServiceValues:
    """The gateways' Service."""

    type: Annotated[Literal["ClusterIP", "NodePort", "LoadBalancer"], "How it is reached."] = "ClusterIP"
    node_port: Annotated[int | None, "Port on each node for types NodePort and LoadBalancer; null: any."] = None
    cluster_ip: Annotated[str, "Fixed address; empty: the cluster chooses one."] = ""
    external_traffic_policy: Annotated[
        str, "Local: clients keep their addresses, but only nodes with a gateway answer; empty: the cluster's default."
    ] = ""
    load_balancer_class: Annotated[str, "Class of the load balancer; empty: the cluster's default."] = ""
    annotations: Annotated[Table, "Annotations, by which clouds configure their load balancers."] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class IngressValues:
    """An Ingress to the gateways."""

    host: Annotated[str, "Host name, for example functions.example.com; empty: no Ingress."] = ""
    class_name: Annotated[str, "Ingress class; empty: the cluster's default."] = ""
    tls_secret: Annotated[str, "Secret with the host's certificate (kubernetes.io/tls); empty: no TLS."] = ""
    annotations: Annotated[Table, "Annotations, for example cert-manager.io/cluster-issuer."] = field(
        default_factory=dict
    )


@dataclass(frozen=True, slots=True)
class RouteValues:
    """An HTTPRoute of the Gateway API to the gateways; the parent's listener has TLS and its certificate."""

    parent: Annotated[str, "Name of the parent Gateway; empty: no HTTPRoute."] = ""
    parent_namespace: Annotated[str, "Namespace of the parent; empty: this one."] = ""
    section_name: Annotated[str, "Listener of the parent; empty: all that fit."] = ""
    hostnames: Annotated[Sequence[str], "Host names; empty: those of the listener."] = ()


@dataclass(frozen=True, slots=True)
class GatewayValues:
    """Gateways: HAProxy, and the agent that follows the workers' pods."""

    replicas: Annotated[int, "Number of gateways."] = 2
    resources: Annotated[Table, "Requests and limits of HAProxy's container."] = field(
        default_factory=lambda: amounts("100m", "32Mi", "256Mi")
    )
    agent_resources: Annotated[Table, "Requests and limits of the agent's container."] = field(
        default_factory=lambda: amounts("20m", "48Mi", "128Mi")
    )
    drain_timeout_seconds: Annotated[int, "How long a gateway that is stopped may finish its calls."] = 60
    tls_to_workers: Annotated[
        bool,
        "TLS between gateways and workers, with certificates of control's. Without it a network that others can "
        "read shows them calls and each pool's secret.",
    ] = False
    service: Annotated[ServiceValues, "Their Service."] = field(default_factory=ServiceValues)
    ingress: Annotated[IngressValues, "An Ingress to them."] = field(default_factory=IngressValues)
    route: Annotated[RouteValues, "An HTTPRoute of the Gateway API to them."] = field(default_factory=RouteValues)
    pod: Annotated[PodValues, "Where their pods run, and what they carry."] = field(default_factory=PodValues)


@dataclass(frozen=True, slots=True)
class WorkerValues:
    """Workers: whole platforms that run functions, in each namespace of functions."""

    replicas: Annotated[int, "Number of workers in each namespace of functions."] = 2
    replicas_in: Annotated[
        Mapping[str, int], "Number of workers in single namespaces instead, for example {openfaas-fn: 5}."
    ] = field(default_factory=dict)
    resources: Annotated[
        Table,
        "Requests and limits of a worker and all functions in it. Without a request of cpu a wake takes five times as "
        "long beside busy neighbours.",
    ] = field(default_factory=lambda: amounts("500m", "512Mi", "2Gi"))
    drain_seconds: Annotated[int, "How long a worker that is stopped serves on, so that gateways turn away."] = 5
    drain_timeout_seconds: Annotated[int, "How long all of that may last: drainSeconds and the longest call."] = 35
    min_ready_seconds: Annotated[int, "How long a new worker must be ready before an old one is stopped."] = 5
    data_size: Annotated[str, "Most that bundles and logs of functions may take on the node's disk."] = "4Gi"
    memory_files_size: Annotated[str, "Most that the files in memory may take; they count as memory."] = "256Mi"
    isolation: Annotated[
        Literal["unprivileged", "full"],
        "unprivileged: as Pod Security restricted wants it. full: a uid and a root for each function; root in "
        "the pod's own user namespace with SYS_ADMIN and without seccomp. Needs hostUsers: false, user namespaces "
        "(Kubernetes 1.33, Linux 6.3) and namespaces in which Pod Security allows privileged pods.",
    ] = "unprivileged"
    host_users: Annotated[bool, "false: the pod has a user namespace of its own."] = True
    allow_without_landlock: Annotated[
        bool, "Start where the kernel has no Landlock: functions of a worker could then read each other's files."
    ] = False
    max_stale: Annotated[
        str, "Refuse calls of functions that control last confirmed longer ago, for example 10m; empty: never."
    ] = ""
    pod: Annotated[PodValues, "Where their pods run, and what they carry."] = field(default_factory=PodValues)


def reach_all() -> tuple[Table, ...]:
    """Egress to everything but the addresses at which clouds give credentials to nodes."""
    return (
        {"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]}}]},
        {"to": [{"ipBlock": {"cidr": "::/0", "except": ["fe80::/10", "fd00:ec2::254/128"]}}]},
    )


@dataclass(frozen=True, slots=True)
class BuildValues:
    """Builds of faas-cli's remote builder, each in a pod of its own."""

    enabled: Annotated[
        bool, "Let control make pods in the namespaces of functions, for builds. false: it has no right to, and the "
        "remote builder builds nothing."
    ] = True
    concurrent: Annotated[int, "Builds at once; further ones wait."] = 2
    timeout_seconds: Annotated[int, "How long a build may take."] = 900
    resources: Annotated[Table, "Requests and limits of a build's container."] = field(
        default_factory=lambda: amounts("100m", "256Mi", "2Gi")
    )
    work_size: Annotated[str, "Most that a build may take on the node's disk."] = "4Gi"
    env: Annotated[
        Mapping[str, str], "Variables of builds, for example PIP_INDEX_URL or HTTPS_PROXY. Packages' code sees them."
    ] = field(default_factory=dict)
    pod: Annotated[PodValues, "Where their pods run, and what they carry."] = field(default_factory=PodValues)


@dataclass(frozen=True, slots=True)
class NetworkValues:
    """NetworkPolicies."""

    enabled: Annotated[bool, "Install NetworkPolicies: pods reach only what they need."] = True
    function_egress: Annotated[
        Sequence[Table], "What functions may reach beside gateways and DNS: rules as in a NetworkPolicy; []: nothing."
    ] = field(default_factory=reach_all)
    build_egress: Annotated[
        Sequence[Table], "What builds may reach beside control and DNS, for example a package index: rules as above."
    ] = field(default_factory=reach_all)
    metrics_from: Annotated[
        Sequence[Table], "Who may read the metrics of control and workers: peers as in a NetworkPolicy."
    ] = ()
    api_ports: Annotated[Sequence[int], "Ports of the Kubernetes API, which control and agents may reach."] = (
        443,
        6443,
    )


@dataclass(frozen=True, slots=True)
class Values:
    """All values of an installation."""

    namespace: str = SYSTEM  # not in values.yaml: Helm has it
    image: Annotated[
        str, "Image of rescoldo. There is no public one yet: make it with `rescoldo kubernetes image`."
    ] = ""
    image_pull_policy: Annotated[Literal["Always", "IfNotPresent", "Never"], "When nodes pull it."] = "IfNotPresent"
    image_pull_secrets: Annotated[Sequence[str], "Secrets with logins of the registry, in each of the namespaces."] = ()
    function_namespaces: Annotated[
        Sequence[str], f"Namespaces that hold functions, each with workers of its own; {DEFAULT_NAMESPACE} first."
    ] = (DEFAULT_NAMESPACE,)
    create_namespaces: Annotated[bool, "Create these namespaces. false where they exist already."] = True
    function_defaults: Annotated[
        Mapping[str, str],
        "Defaults of functions: flags of `rescoldo serve` without --default-, for example memory: 256Mi.",
    ] = field(default_factory=dict)
    run_as_user: Annotated[int | None, "uid of all containers; null: that of the image, or OpenShift's choice."] = None
    disruption_budgets: Annotated[
        bool, "PodDisruptionBudgets: a drain of nodes takes one worker or gateway at once."
    ] = True
    network_policies: Annotated[NetworkValues, "NetworkPolicies."] = field(default_factory=NetworkValues)
    control: Annotated[ControlValues, "Control: the API, one replica."] = field(default_factory=ControlValues)
    gateway: Annotated[GatewayValues, "Gateways: HAProxy, and an agent that follows the workers' pods."] = field(
        default_factory=GatewayValues
    )
    worker: Annotated[WorkerValues, "Workers, which run the functions."] = field(default_factory=WorkerValues)
    build: Annotated[BuildValues, "Builds of faas-cli's remote builder, in pods of their own."] = field(
        default_factory=BuildValues
    )

    def check(self) -> None:
        """Raise InvalidInput for values that no installation can have."""
        for name in (self.namespace, *self.function_namespaces):
            check_name(name, "namespace")
        problem = next((text for wrong, text in (*self._wrong_names(), *self._wrong_parts()) if wrong), None)
        if problem is not None:
            raise InvalidInput(f"values: {problem}")

    def _wrong_names(self) -> Iterator[tuple[bool, str]]:
        names = self.function_namespaces
        yield not self.image, "image: give rescoldo's image (--image); `rescoldo kubernetes image` makes one"
        yield tuple(names[:1]) != (DEFAULT_NAMESPACE,), f"functionNamespaces: the first one is {DEFAULT_NAMESPACE}"
        yield len(set(names)) < len(names), "functionNamespaces: one is given twice"
        yield self.namespace in names, f"functionNamespaces: {self.namespace} has gateways and control; use another"

    def _wrong_parts(self) -> Iterator[tuple[bool, str]]:
        gateway, worker, build = self.gateway, self.worker, self.build
        yield not 1 <= build.concurrent <= MOST_BUILDS, f"build.concurrent: use 1 to {MOST_BUILDS}"
        yield not 1 <= build.timeout_seconds <= DAY, f"build.timeoutSeconds: use 1 to {DAY}"
        yield gateway.replicas < 1, "gateway.replicas: use 1 or more"
        yield gateway.drain_timeout_seconds < 5, "gateway.drainTimeoutSeconds: use 5 or more"
        yield worker.replicas < 1, "worker.replicas: use 1 or more"
        yield min(worker.replicas_in.values(), default=1) < 1, "worker.replicasIn: use 1 or more for each namespace"
        unknown = sorted(worker.replicas_in.keys() - set(self.function_namespaces))
        yield bool(unknown), f"worker.replicasIn: {', '.join(unknown)}: not among functionNamespaces"
        yield worker.isolation == FULL and worker.host_users, "worker.isolation: full needs worker.hostUsers: false"
        too_short = worker.drain_timeout_seconds < worker.drain_seconds
        yield too_short, "worker.drainTimeoutSeconds: use drainSeconds or more"
