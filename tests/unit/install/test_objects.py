"""What the objects of an installation promise: no rights that nobody needs, restricted pods, time for draining."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rescoldo.gateway.pods import TLS_PORT
from rescoldo.install.chart import template
from rescoldo.install.kinds import kind_of
from rescoldo.install.placeholders import Each, Field, Not, Text, When
from rescoldo.install.reading import read_values, set_values
from rescoldo.install.rendering import render
from rescoldo.install.stages import stages
from rescoldo.install.values import Values

VALUES = Values(image="rescoldo:1")
EVERYTHING = Path(__file__).with_name("everything.yaml")


def objects(*settings: str) -> list[dict[str, Any]]:
    values = set_values(VALUES, settings)
    return [obj for stage in stages() for obj in render(stage.objects, values)]


def named(kind: str, name: str, *settings: str) -> dict[str, Any]:
    (found,) = [obj for obj in objects(*settings) if (obj["kind"], obj["metadata"]["name"]) == (kind, name)]
    return found


def pods(*settings: str) -> dict[str, dict[str, Any]]:
    """The pod of each Deployment, and of builds."""
    found = {o["metadata"]["name"]: o.get("template") or o["spec"].get("template") for o in objects(*settings)
             if o["kind"] in ("Deployment", "PodTemplate")}  # fmt: skip
    return {name: template["spec"] for name, template in found.items()}


def test_every_kind_is_known_and_no_object_comes_twice() -> None:
    found = [
        (kind_of(obj), obj["metadata"].get("namespace"), obj["metadata"]["name"])
        for stage in stages()
        for obj in render(stage.objects, read_values(VALUES, EVERYTHING))
    ]
    assert len(found) == len(set(found)) > 30


def test_every_object_but_the_definition_shows_whose_it_is() -> None:
    without = [o["kind"] for o in objects() if "rescoldo.dev/install" not in o["metadata"]["labels"]]
    assert without == ["CustomResourceDefinition"]


@pytest.mark.parametrize("part", ["rescoldo-control", "rescoldo-gateway", "rescoldo-worker", "rescoldo-build"])
def test_pods_are_as_pod_security_restricted_wants_them_with_a_read_only_root(part: str) -> None:
    pod = pods()[part]
    assert pod["automountServiceAccountToken"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }
        assert {"requests", "limits"} == set(container["resources"])
    allowed = {"emptyDir", "secret", "projected", "persistentVolumeClaim", "name"}
    assert {key for volume in pod["volumes"] for key in volume} <= allowed


def test_tokens_are_where_they_are_needed_alone() -> None:
    with_token = {
        (part, container["name"])
        for part, pod in pods().items()
        for container in pod["containers"]
        if any(mount["name"] == "token" for mount in container["volumeMounts"])
    }
    assert with_token == {("rescoldo-control", "control"), ("rescoldo-gateway", "agent")}
    assert not any("projected" in volume for volume in pods()["rescoldo-worker"]["volumes"])


def test_rights_to_secrets_and_pods_are_roles_of_single_namespaces() -> None:
    everywhere = [rule for o in objects() if o["kind"] == "ClusterRole" for rule in o["rules"]]
    assert {resource for rule in everywhere for resource in rule["resources"]} == {
        "functions",
        "functions/status",
        "functions/finalizers",
        "controllerrevisions",
    }
    roles = {
        (o["metadata"]["namespace"], o["metadata"]["name"], rule["resources"][0]): rule["verbs"]
        for o in objects("functionNamespaces=[openfaas-fn, blue]")
        if o["kind"] == "Role"
        for rule in o["rules"]
    }
    secrets = ["get", "list", "watch", "create", "update", "patch", "delete"]
    assert roles == {
        ("rescoldo", "rescoldo-control-secrets", "secrets"): secrets,
        ("openfaas-fn", "rescoldo-control-secrets", "secrets"): secrets,
        ("blue", "rescoldo-control-secrets", "secrets"): secrets,
        ("openfaas-fn", "rescoldo-gateway-pods", "pods"): ["list", "watch"],
        ("blue", "rescoldo-gateway-pods", "pods"): ["list", "watch"],
        ("openfaas-fn", "rescoldo-control-builds", "pods"): ["list", "watch", "create", "delete"],
        ("blue", "rescoldo-control-builds", "pods"): ["list", "watch", "create", "delete"],
        ("openfaas-fn", "rescoldo-control-builds", "podtemplates"): ["get"],
        ("blue", "rescoldo-control-builds", "podtemplates"): ["get"],
    }
    assert not any("*" in rule["verbs"] + rule["resources"] + rule["apiGroups"] for rule in everywhere)


def test_no_worker_has_any_right() -> None:
    bound = {s["name"] for o in objects() if o["kind"].endswith("RoleBinding") for s in o["subjects"]}
    assert bound == {"rescoldo-control", "rescoldo-gateway"}


def test_without_builds_control_has_no_right_to_pods() -> None:
    found = objects("build.enabled=false")
    assert not [o for o in found if "build" in o["metadata"]["name"]]
    rules = [rule for o in found if o["kind"] == "Role" for rule in o["rules"]]
    assert [rule["verbs"] for rule in rules if "pods" in rule["resources"]] == [["list", "watch"]]  # of gateways


def test_builds_pods_have_an_account_without_rights_and_count_in_no_service() -> None:
    template = named("PodTemplate", "rescoldo-build", "build.env={PIP_INDEX_URL: 'https://a', N: '1'}")["template"]
    spec = template["spec"]
    assert spec["serviceAccountName"] == "rescoldo-build" and spec["restartPolicy"] == "Never"
    assert {v["name"]: v["secret"]["secretName"] for v in spec["volumes"] if "secret" in v} == {
        "identity": "rescoldo-build"
    }
    assert {"name": "N", "value": "1"} in spec["containers"][0]["env"]
    assert template["metadata"]["labels"]["app.kubernetes.io/component"] == "build"
    selectors = [o["spec"]["selector"] for o in objects() if o["kind"] == "Service"]
    assert "build" not in {selector["app.kubernetes.io/component"] for selector in selectors}


def test_nobody_reaches_a_build_and_no_policy_has_an_empty_list() -> None:
    """The API server drops empty lists, so that an installation that is done again would change them."""
    policies = {o["metadata"]["name"]: o["spec"] for o in objects() if o["kind"] == "NetworkPolicy"}
    assert "Ingress" in policies["rescoldo-build"]["policyTypes"]
    assert [name for name, spec in policies.items() if "ingress" not in spec] == ["rescoldo-build"]
    assert [name for name, spec in policies.items() if [] in spec.values()] == []


def test_a_build_ends_with_its_control_or_a_minute_later() -> None:
    found = pods("build.timeoutSeconds=100", "build.concurrent=3")
    args = found["rescoldo-control"]["containers"][0]["args"]
    assert args[args.index("--builds") + 1] == "3" and args[args.index("--build-timeout") + 1] == "100s"
    assert found["rescoldo-build"]["activeDeadlineSeconds"] == 160


@pytest.mark.parametrize("level", ["unprivileged", "full"])
def test_control_knows_how_its_workers_keep_functions_apart(level: str) -> None:
    args = pods(f"worker.isolation={level}", "worker.hostUsers=false")["rescoldo-control"]["containers"][0]["args"]
    assert args[args.index("--workers-isolation") + 1] == level


def test_a_pod_lives_long_enough_to_drain() -> None:
    found = pods("worker.drainTimeoutSeconds=100", "gateway.drainTimeoutSeconds=200")
    worker, gateway = found["rescoldo-worker"], found["rescoldo-gateway"]
    assert worker["terminationGracePeriodSeconds"] == 125
    assert worker["containers"][0]["args"][-2:] == ["--drain-timeout", "100s"]
    assert gateway["terminationGracePeriodSeconds"] == 225
    for container in gateway["containers"]:
        assert container["lifecycle"]["preStop"]["exec"]["command"][-2:] == ["--drain-timeout", "200s"]


def test_haproxys_container_does_not_see_the_agents_processes_and_so_its_token() -> None:
    assert "shareProcessNamespace" not in pods()["rescoldo-gateway"]


def test_every_namespace_of_functions_has_workers_that_know_their_namespace() -> None:
    found = [o for o in objects("functionNamespaces=[openfaas-fn, blue]") if o["metadata"]["name"] == "rescoldo-worker"]
    deployments = [o for o in found if o["kind"] == "Deployment"]
    assert [o["metadata"]["namespace"] for o in deployments] == ["openfaas-fn", "blue"]
    for deployment in deployments:
        args = deployment["spec"]["template"]["spec"]["containers"][0]["args"]
        assert args[args.index("--namespace") + 1] == deployment["metadata"]["namespace"]


def test_optional_flags_are_there_if_wanted() -> None:
    args = pods("worker.maxStale=10m", "worker.allowWithoutLandlock=true", "functionDefaults={timeout: 1m, cpu: '0'}")
    assert args["rescoldo-worker"]["containers"][0]["args"][-5:] == [
        "--max-stale",
        "10m",
        "--allow-without-landlock",
        "--default-cpu=0",
        "--default-timeout=1m",
    ]
    assert args["rescoldo-control"]["containers"][0]["args"][-2:] == ["--default-cpu=0", "--default-timeout=1m"]


def test_the_level_full_is_root_in_a_user_namespace_of_its_own() -> None:
    settings = ("worker.isolation=full", "worker.hostUsers=false")
    pod = pods(*settings)["rescoldo-worker"]
    assert pod["hostUsers"] is False
    security = pod["containers"][0]["securityContext"]
    assert security["capabilities"] == {"drop": [], "add": ["SYS_ADMIN"]}
    restricted = pods()["rescoldo-worker"]["containers"][0]["securityContext"]
    assert set(restricted) <= set(security), "a field that an upgrade from restricted would leave as it was"
    level = named("Namespace", "openfaas-fn", *settings)["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert level == "privileged"
    assert "hostUsers" not in pods()["rescoldo-worker"]


def test_workers_that_speak_tls_say_so_in_their_pods_and_gateways_get_the_authority_without_its_key() -> None:
    (worker,) = pods("gateway.tlsToWorkers=true")["rescoldo-worker"]["containers"]
    assert worker["args"][worker["args"].index("--gateways-tls-address") + 1] == "0.0.0.0:8443"
    assert {"name": TLS_PORT, "containerPort": 8443} in worker["ports"]
    (plain,) = pods()["rescoldo-worker"]["containers"]
    assert "--gateways-tls-address" not in plain["args"] and len(plain["ports"]) == 2
    for values in ((), ("gateway.tlsToWorkers=true",)):  # so a roll-out to workers with TLS needs no other gateways
        gateway = pods(*values)["rescoldo-gateway"]
        (volume,) = [volume for volume in gateway["volumes"] if volume["name"] == "authority"]
        certificate = {"key": "tls.crt", "path": "tls.crt"}
        assert volume["secret"] == {"secretName": "rescoldo-authority", "items": [certificate]}
        mounts = [mount["name"] for container in gateway["containers"] for mount in container["volumeMounts"]]
        assert mounts.count("authority") == 1
    agent = pods("gateway.tlsToWorkers=true")["rescoldo-gateway"]["containers"][1]
    assert agent["args"][-2:] == ["--connect-timeout", "2s"]


def test_functions_reach_nothing_else_if_so_wanted() -> None:
    egress = named("NetworkPolicy", "rescoldo-worker", "networkPolicies.functionEgress=[]")["spec"]["egress"]
    ports = [port["port"] for rule in egress for port in rule["ports"]]
    assert ports == [8443, 8080, 53, 53]  # control's link, gateways, DNS
    assert not [o for o in objects("networkPolicies.enabled=false") if o["kind"] == "NetworkPolicy"]


def fields(tree: Any) -> Iterator[str]:
    """The paths of all values that a tree names."""
    if isinstance(tree, Field):
        yield tree.path
    elif isinstance(tree, dict):
        yield from (path for each in tree.values() for path in fields(each))
    elif isinstance(tree, list | tuple):
        yield from (path for each in tree for path in fields(each))
    elif isinstance(tree, Text | When | Each | Not) or hasattr(tree, "__dataclass_fields__"):
        yield from (path for name in tree.__dataclass_fields__ for path in fields(getattr(tree, name)))


def test_every_value_is_used_by_an_object() -> None:
    from rescoldo.install.schema import keys

    def leaves(section: type[Any], path: str) -> Iterator[str]:
        for key in keys(section):
            if hasattr(key.kind, "__dataclass_fields__"):
                yield from leaves(key.kind, f"{path}{key.name}.")
            else:
                yield f"{path}{key.name}"

    used = {path for stage in stages() for path in fields(list(stage.objects))}
    assert set(leaves(Values, "")) == used - {"namespace"}


def test_what_helm_would_take_for_an_action_is_written_as_text() -> None:
    assert template([{"a": "{{ x }}", "b": Text("{}s", (Field("n"),))}]) == (
        '---\na: "{{ "{{" }} x }}"\nb: {{ printf "%vs" (toJson $.Values.n) | toJson }}\n'
    )
