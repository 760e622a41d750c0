import json
from pathlib import Path

import pytest
import yaml

from rescoldo.cli.deployment import digest_of

STACK = """provider: {name: openfaas}
functions:
  hello:
    lang: python3-http
    handler: ./hello
    image: me/hello:2
    fprocess: python index.py
    environment: {A: "1", B: "2"}
    labels: {com.openfaas.scale.min: 1, com.openfaas.scale.max: 4}
    annotations: {topic: x}
    secrets: [two, one]
    limits: {memory: 40Mi}
    readonly_root_filesystem: true
"""
SAME = {
    "name": "hello",
    "image": "me/hello:2",
    "envProcess": "python index.py",
    "envVars": {"A": "1", "B": "2"},
    "labels": {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4", "faas_function": "hello"},
    "annotations": {"topic": "x", "prometheus.io.scrape": "false"},
    "secrets": ["one", "two"],
    "limits": {"memory": "40Mi"},
    "requests": None,
    "readOnlyRootFilesystem": True,
}


@pytest.fixture(autouse=True)
def project():
    Path("stack.yaml").write_text(STACK)
    Path("hello").mkdir()
    Path("hello/handler.py").write_text("def handle(event, context):\n    return 1\n")


def test_no_difference_exits_with_0_whatever_the_gateway_adds(run, gateway):
    gateway.answer("GET /system/function/hello", 200, SAME)
    assert run("diff") == (0, "= hello.openfaas-fn\n", "")
    assert json.loads(run("diff", "--json")[1])[0]["changes"] == []


@pytest.mark.parametrize("process", ["", None, "python3 index.py"])
def test_fprocess_of_a_python_template_is_not_a_difference(run, gateway, process):
    """faas-cli sends it, and our gateway does not keep it."""
    gateway.answer("GET /system/function/hello", 200, {**SAME, "envProcess": process})
    assert run("diff") == (0, "= hello.openfaas-fn\n", "")


def test_every_difference_is_shown_and_exits_with_1(run, gateway):
    changed = {"image": "me/hello:1", "envVars": {"A": "0", "C": "3"}, "secrets": [], "limits": {},
               "readOnlyRootFilesystem": False}  # fmt: skip
    gateway.answer("GET /system/function/hello", 200, SAME | changed)
    status, out, _ = run("diff")
    assert status == 1
    assert [" ".join(line.split()) for line in out.splitlines()] == [
        "~ hello.openfaas-fn",
        "image me/hello:1 -> me/hello:2",
        "envVars.A 0 -> 1",
        "envVars.B (none) -> 2",
        "envVars.C 3 -> (none)",
        "limits.memory (none) -> 40Mi",
        "secrets (none) -> one, two",
        "readOnlyRootFilesystem (none) -> true",
    ]


def test_changed_code_is_a_difference(run, gateway):
    gateway.answer("GET /system/function/hello", 200, SAME)
    run("build")
    digest = digest_of(Path("build/hello/bundle.tar.gz"))
    gateway.answer("GET /system/bundles", 200, [{"digest": digest}])
    gateway.answer("GET /system/bundles", 200, [{"digest": "0" * 64}])
    assert run("diff")[0] == 0
    status, out, _ = run("diff", "--json")
    assert status == 1
    assert json.loads(out)[0]["changes"] == [{"field": "bundle", "deployed": "0" * 12, "wanted": digest[:12]}]


def test_a_function_that_is_not_deployed_is_a_difference(run, gateway):
    gateway.answer("GET /system/function/hello", 404)
    status, out, _ = run("diff", "-n", "dev")
    assert status == 1 and out.startswith("+ hello.dev (not deployed)\n")
    assert gateway.lines() == ["GET /system/function/hello?namespace=dev"]


def test_a_comparison_that_fails_exits_with_2(run, gateway):
    gateway.answer("GET /system/function/hello", 401)
    status, _, err = run("diff")
    assert status == 2 and "rescoldo login" in err
    assert run("diff", "-f", "none.yaml")[0] == 2


def test_an_openfaas_function_has_every_field_of_the_stack_file(run):
    status, out, _ = run("generate", "--annotation", "a=b")
    assert status == 0 and out.startswith("---\n")
    assert yaml.safe_load(out) == {
        "apiVersion": "openfaas.com/v1",
        "kind": "Function",
        "metadata": {"name": "hello", "namespace": "openfaas-fn"},
        "spec": {
            "name": "hello",
            "image": "me/hello:2",
            "handler": "python index.py",
            "labels": {"com.openfaas.scale.min": "1", "com.openfaas.scale.max": "4"},
            "annotations": {"topic": "x", "a": "b"},
            "environment": {"A": "1", "B": "2"},
            "secrets": ["two", "one"],
            "limits": {"memory": "40Mi"},
            "readOnlyRootFilesystem": True,
        },
    }


def test_a_knative_service_has_scaling_bounds_and_mounts_the_secrets(run):
    (service,) = yaml.safe_load_all(run("generate", "--api", "serving.knative.dev/v1", "-n", "prod")[1])
    assert service["metadata"] == {"name": "hello", "namespace": "prod"}
    template = service["spec"]["template"]
    assert template["metadata"]["annotations"] == {
        "autoscaling.knative.dev/min-scale": "1",
        "autoscaling.knative.dev/max-scale": "4",
        "topic": "x",
    }
    (container,) = template["spec"]["containers"]
    assert container["env"][0] == {"name": "fprocess", "value": "python index.py"}
    assert container["resources"] == {"limits": {"memory": "40Mi"}}
    assert [mount["mountPath"] for mount in container["volumeMounts"]] == [
        "/var/openfaas/secrets/two",
        "/var/openfaas/secrets/one",
    ]
    assert template["spec"]["volumes"][0] == {"name": "two", "secret": {"secretName": "two"}}


def test_each_function_is_a_document_and_text_stays_text(run):
    text = "  b: {lang: python3, handler: ./b, environment: {V: 1.10, T: 'true'}}\n"
    Path("stack.yaml").write_text(STACK + text)
    found = list(yaml.safe_load_all(run("generate")[1]))
    assert [item["metadata"]["name"] for item in found] == ["hello", "b"]
    assert found[1]["spec"]["environment"] == {"V": "1.10", "T": "true"}


def test_a_function_of_a_store_needs_no_stack_file(run):
    images = {"x86_64": "me/fig:1"}
    Path("s.json").write_text(json.dumps({"functions": [{"name": "fig", "images": images, "fprocess": "fig"}]}))
    out = run("generate", "--from-store", "fig", "--url", "s.json", "--platform", "x86_64")[1]
    assert yaml.safe_load(out)["spec"] == {"name": "fig", "image": "me/fig:1", "handler": "fig"}
    assert run("generate", "--api", "v1")[0] == 2
