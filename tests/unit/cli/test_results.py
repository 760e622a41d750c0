"""Verbs for many functions: each gets a line at the end, whatever happened to the others."""

import io
import json
import sys
from pathlib import Path

import pytest

HANDLER = "def handle(event, context):\n    return 'x'\n"


def project(functions: dict[str, str], handlers: dict[str, str] | None = None) -> None:
    """A stack file; `functions` are the keys of each besides lang and handler."""
    text = "provider: {name: openfaas}\nfunctions:\n"
    for name, extra in functions.items():
        lang = "" if "lang:" in extra else "lang: python3-http, "
        text += f"  {name}: {{{lang}handler: ./{name}{extra and f', {extra}'}}}\n"
        Path(name).mkdir()
        Path(f"{name}/handler.py").write_text((handlers or {}).get(name, HANDLER))
    Path("stack.yaml").write_text(text)


def states(out: str) -> dict[str, str]:
    return {one["name"]: one["state"] for one in json.loads(out)}


def answer_deployments(gateway) -> None:
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 200)


def test_up_continues_after_a_function_that_cannot_be_built(run, gateway):
    project({"a": "", "b": "", "c": ""}, {"b": "def handle(:\n"})
    answer_deployments(gateway)
    status, out, err = run("up")
    lines = out.splitlines()
    assert status == 1 and "b/handler.py:1" in err
    assert [line.split()[:2] for line in lines[:3]] == [["a", "deployed"], ["b", "failed"], ["c", "deployed"]]
    assert "b/handler.py:1" in lines[1] and lines[3] == "3 functions: 2 deployed, 1 failed."


def test_up_with_json_lists_each_function_and_why_it_failed(run, gateway):
    project({"a": "", "b": ""}, {"b": "def handle(:\n"})
    answer_deployments(gateway)
    status, out, err = run("up", "--json")
    a, b = json.loads(out)
    assert status == 1 and (a["state"], b["state"]) == ("deployed", "failed")
    assert a["url"].endswith("/function/a") and "b/handler.py:1" in b["reason"]
    assert "2 functions: 1 deployed, 1 failed." in err


def test_build_continues_after_a_function_that_cannot_be_built(run):
    project({"a": "", "b": "", "c": "skip_build: true, image: c"}, {"a": "def handle(:\n"})
    status, out, _ = run("build", "--json")
    built = json.loads(out)
    assert status == 1 and {name: one["state"] for name, one in built.items()} == {
        "a": "failed",
        "b": "built",
        "c": "skipped",
    }
    assert "a/handler.py:1" in built["a"]["reason"] and Path(built["b"]["path"]).is_file()
    status, out, _ = run("build")
    assert status == 1 and out.splitlines()[-1] == "3 functions: 1 built, 1 skipped, 1 failed."


def test_a_function_without_a_new_revision_is_unchanged(run, gateway):
    project({"a": "", "b": ""})
    answer_deployments(gateway)
    gateway.answer("GET /system/functions", 200, [{"name": "a", "revision": 3}, {"name": "b", "revision": 3}])
    gateway.answer("GET /system/functions", 200, [{"name": "a", "revision": 3}, {"name": "b", "revision": 4}])
    assert states(run("up", "--json")[1]) == {"a": "unchanged", "b": "deployed"}


def test_only_a_changed_function_tells_again_what_has_no_effect(run, gateway):
    project({"a": "", "b": ""})
    answer_deployments(gateway)
    gateway.answer("PUT /system/functions", 202, b"note: rain has no effect\n")
    gateway.answer("GET /system/functions", 200, [{"name": "a", "revision": 3}, {"name": "b", "revision": 3}])
    gateway.answer("GET /system/functions", 200, [{"name": "a", "revision": 3}, {"name": "b", "revision": 4}])
    said = run("up")[2]
    assert "b: rain has no effect" in said and "a: rain" not in said


def test_functions_of_several_namespaces_are_compared_by_one_list_of_each(run, gateway):
    project({"a": "skip_build: true, image: a", "b": "skip_build: true, image: b, namespace: dev"})
    gateway.answer("GET /system/namespaces", 200, ["openfaas-fn", "dev"])
    gateway.answer("GET /system/functions", 200, [{"name": "b", "revision": 3}])
    assert states(run("deploy", "--json")[1]) == {"a": "deployed", "b": "unchanged"}
    assert [call.line for call in gateway.calls if call.method == "GET"] == [
        "GET /system/namespaces",
        "GET /system/functions",
        "GET /system/functions?namespace=dev",
        "GET /system/functions?namespace=dev",
    ]


@pytest.mark.parametrize("answer", [(404, b""), (200, b"null"), (200, b'["a"]'), (200, [{"name": "a"}])])
def test_a_function_is_deployed_where_the_gateway_tells_no_revision(run, gateway, answer):
    project({"a": ""})
    gateway.answer("GET /system/functions", *answer)
    gateway.answer("PUT /system/functions", 404)
    assert states(run("deploy", "--json")[1]) == {"a": "deployed"}
    assert [call.line for call in gateway.changes()] == ["PUT /system/functions", "POST /system/functions"]


def test_missing_secrets_namespaces_and_settings_are_reported_before_the_build(run, gateway):
    project({"a": "secrets: [key, token]", "b": "namespace: dev", "c": "", "d": "lang: process"})
    gateway.answer("GET /healthz", 200)
    gateway.answer("GET /system/secrets", 200, [{"name": "key"}])
    gateway.answer("GET /system/namespaces", 200, ["openfaas-fn"])
    gateway.answer("POST /system/bundles", 200)
    status, out, err = run("up", "--json")
    assert status == 1 and states(out) == {"a": "failed", "b": "failed", "c": "deployed", "d": "failed"}
    assert "stack.yaml:3: a: namespace openfaas-fn has no secret token" in err and "secret create token" in err
    assert "stack.yaml:4: b: namespace 'dev' does not exist" in err and "namespace create dev" in err
    assert "stack.yaml:6: d: upstream_url is missing" in err
    assert sorted(path.name for path in Path("build").iterdir()) == ["c"]
    assert err.index("no secret token") < err.index("c: built")


def test_an_invalid_setting_fails_its_function_before_the_build(run, gateway):
    project({"a": "limits: {memory: lots}", "b": ""})
    answer_deployments(gateway)
    status, out, err = run("up", "--json")
    assert status == 1 and states(out) == {"a": "failed", "b": "deployed"}
    assert "stack.yaml:3: a: limits.memory: 'lots'" in err and not Path("build/a").exists()


def test_a_gateway_that_lists_no_namespaces_or_secrets_skips_their_check(run, gateway):
    project({"a": "secrets: [key], namespace: dev"})
    answer_deployments(gateway)
    gateway.answer("GET /system/secrets", 404)
    gateway.answer("GET /system/namespaces", 501)
    assert states(run("up", "--json")[1]) == {"a": "deployed"}


def test_a_secret_is_missing_in_a_namespace_without_secrets(run, gateway):
    project({"a": "secrets: [key]"})
    answer_deployments(gateway)
    gateway.answer("GET /system/secrets", 200, [])
    assert "no secret key" in run("deploy")[2] and gateway.changes() == []


def test_a_function_that_does_not_exist_is_posted_without_a_put(run, gateway):
    project({"a": ""})
    gateway.answer("GET /system/functions", 200, [{"name": "b", "revision": 1}])
    assert states(run("deploy", "--json")[1]) == {"a": "deployed"}
    assert [call.line for call in gateway.calls] == ["GET /system/functions", "POST /system/functions"]


# -- remove


def test_removing_a_missing_function_does_not_stop_the_others(run, gateway):
    gateway.answer("DELETE /system/functions", 404)
    gateway.answer("DELETE /system/functions", 202)
    status, out, err = run("remove", "gone", "here", "--parallel", "1")
    assert status == 1 and "function gone.openfaas-fn is not deployed" in err
    assert [line.split()[:2] for line in out.splitlines()[:2]] == [["gone", "failed"], ["here", "removed"]]
    assert len(gateway.calls) == 2


def test_remove_without_a_name_requires_yes(run, gateway, stdin):
    project({"a": "", "b": ""})
    stdin(b"")
    status, out, err = run("remove")
    assert (status, out) == (2, "") and "a, b" in err and "--all" in err and "--yes" in err
    assert gateway.calls == []
    assert states(run("remove", "--yes", "--json")[1]) == {"a": "removed", "b": "removed"}


@pytest.mark.parametrize(("typed", "removed"), [("y\n", 1), ("n\n", 0), ("\n", 0)])
def test_remove_without_a_name_asks_on_a_terminal(run, gateway, monkeypatch, typed, removed):
    project({"a": ""})
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    _, _, err = run("remove")
    assert f"Remove a at {gateway.url}?" in err and len(gateway.changes()) == removed


def test_names_that_cannot_be_functions_are_refused_before_anything_is_removed(run, gateway):
    assert run("remove", "fine", "Not_Fine")[0] == 1
    assert gateway.calls == []


def test_all_and_names_exclude_each_other(run, gateway):
    assert run("remove", "a", "--all")[0] == 2
    assert gateway.calls == []


# -- settings without effect, and starts that take long


def test_a_deployment_lists_settings_without_effect(run, gateway):
    project({"a": "", "b": ""})
    Path("a/Dockerfile").touch()
    answer_deployments(gateway)
    told = b"note: annotation schedule: nothing calls it\nnote: limits.memory: not held here\n"
    gateway.answer("PUT /system/functions", 202, told)
    gateway.answer("PUT /system/functions", 202)
    _, out, err = run("up", "--json", "--parallel", "1")
    a, b = json.loads(out)
    assert [text.partition(":")[0] for text in a["notes"]] == ["annotation schedule", "limits.memory"]
    assert "notes" not in b
    for said in ("a: annotation schedule: nothing calls", "a: limits.memory: not held", "a: a/Dockerfile: ignored"):
        assert f"note: {said}" in err


def test_notes_of_another_gateway_are_not_shown(run, gateway):
    project({"a": "annotations: {schedule: '* * * * *'}"})
    answer_deployments(gateway)
    gateway.answer("PUT /system/functions", 202, b"Accepted: a note: none of ours\n")
    assert "note:" not in run("deploy")[2]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_function_still_starting_after_the_wait_is_not_deployed(run, gateway, as_json):
    project({"a": "", "b": ""})
    answer_deployments(gateway)
    gateway.answer("PUT /system/functions", 202, b"", X_Rescoldo_Rollout="starting")
    gateway.answer("PUT /system/functions", 202)
    status, out, err = run("deploy", "--parallel", "1", *(["--json"] if as_json else []))
    assert status == 1
    if as_json:
        assert states(out) == {"a": "deploying", "b": "deployed"}
        assert "rescoldo ready a" in json.loads(out)[0]["reason"]
    else:
        assert out.splitlines()[0].split()[:2] == ["a", "deploying"] and "rescoldo ready a" in out
    assert "2 functions: 1 deployed, 1 deploying." in (err if as_json else out)


def test_without_waiting_a_starting_function_is_deployed(run, gateway):
    project({"a": ""})
    answer_deployments(gateway)
    gateway.answer("PUT /system/functions", 202, b"", X_Rescoldo_Rollout="starting")
    status, out, _ = run("deploy", "--no-start", "--json")
    assert status == 0 and states(out) == {"a": "deployed"}


def test_describe_lists_settings_without_effect(run, gateway):
    told = [
        "annotation topic: no event reaches the function",
        "limits.cpu: not enforced at the isolation level unprivileged",
    ]
    gateway.answer("GET /system/function/a", 200, {"name": "a", "image": "a:1", "notes": told})
    out = run("describe", "a")[1]
    assert "Notes:        annotation topic: no event reaches the function" in out
    assert "\n              limits.cpu: not enforced at the isolation level unprivileged" in out
    assert json.loads(run("describe", "a", "--json")[1])["notes"] == told


def test_validate_lists_settings_without_effect_and_finds_no_problem(run):
    project({"a": "annotations: {topic: x}"})
    Path("a/Dockerfile").touch()
    status, out, err = run("validate")
    assert status == 0 and "no problems" in out
    assert "note: stack.yaml:3: a: annotation topic" in err and "a/Dockerfile: ignored" in err
    assert len(json.loads(run("validate", "--json")[1])["notes"]) == 2
