"""Every verb that speaks HTTP, against a server that records its requests."""

import base64
import json
import re
import socket
from pathlib import Path

import pytest

from rescoldo.api.credentials import load_or_create
from rescoldo.cli.credentials import authorization, basic, forget, known, save
from rescoldo.cli.gateway import Gateway, choose_gateway
from rescoldo.cli.main import main
from rescoldo.model.errors import InvalidInput

STATUS = {
    "name": "hello",
    "namespace": "openfaas-fn",
    "image": "hello:latest",
    "invocationCount": 7,
    "replicas": 1,
    "availableReplicas": 1,
    "createdAt": "2026-01-02T03:04:05Z",
    "labels": {"a": "b"},
    "usage": {"cpu": 12, "totalMemoryBytes": 3 * 2**20},
}


def write_project(**keys: str) -> None:
    Path("hello").mkdir()
    Path("hello/handler.py").write_text("def handle(event, context):\n    return 'x'\n")
    extra = "".join(f"    {key}: {value}\n" for key, value in keys.items())
    Path("stack.yaml").write_text(
        "provider: {name: openfaas}\nfunctions:\n  hello:\n    lang: python3-http\n    handler: ./hello\n" + extra
    )


# -- list, describe, scale, ready


def test_list_prints_a_table(run, gateway):
    gateway.answer("GET /system/functions", 200, [STATUS, {**STATUS, "name": "a", "invocationCount": 12}])
    status, out, _ = run("list")
    assert status == 0 and gateway.lines() == ["GET /system/functions"]
    head, *rows = (line.split() for line in out.splitlines())
    assert head == ["Function", "Image", "Replicas", "Invocations", "Status"]
    assert rows == [["a", "hello:latest", "1", "12", "Ready"], ["hello", "hello:latest", "1", "7", "Ready"]]
    assert run("ls", "-q", "--sort", "invocations")[1] == "a\nhello\n"
    assert run("list", "-v")[1].splitlines()[2].split()[-1] == "2026-01-02T03:04:05Z"


def test_list_of_a_namespace_as_json(run, gateway):
    gateway.answer("GET /system/functions", 200, [STATUS])
    assert json.loads(run("list", "-n", "dev", "--json")[1]) == [STATUS]
    assert gateway.lines() == ["GET /system/functions?namespace=dev"]


def test_an_empty_list_is_not_an_error(run, gateway):
    gateway.answer("GET /system/functions", 200, [])
    assert run("list") == (0, "Function  Image  Replicas  Invocations  Status\n", "")


def test_describe_requests_usage(run, gateway):
    gateway.answer("GET /system/function/hello", 200, STATUS)
    gateway.answer("GET /system/status", 200, {"isolation": {"level": "full", "limits": "cgroup v2"}})
    status, out, _ = run("describe", "hello")
    assert status == 0 and gateway.lines() == ["GET /system/function/hello?usage=1", "GET /system/status"]
    assert re.search(r"Isolation: +level full, limits cgroup v2\n", out)
    assert re.search(r"Status: +Ready\n", out) and re.search(r"Usage: +12m cpu, 3\.0 MiB\n", out)
    assert f"{gateway.url}/function/hello\n" in out
    isolation = {"level": "full", "limits": "cgroup v2"}
    assert json.loads(run("describe", "hello", "--json")[1]) == {
        **STATUS,
        "isolation": isolation,
        "notes": [],
    }


def test_describe_shows_a_traffic_split_only_if_there_is_one(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "traffic": {"4": 10, "3": 90}})
    assert re.search(r"Traffic: +10 % to revision 4, 90 % to revision 3\n", run("describe", "hello")[1])
    gateway.answer("GET /system/function/whole", 200, STATUS)
    assert "Traffic" not in run("describe", "whole")[1]


def test_a_setting_that_the_gateway_refuses_is_reported_with_file_and_line(run, gateway):
    write_project(skip_build="true", image="hello:1", annotations="{rescoldo.dev/max-queue: many}")
    gateway.answer("PUT /system/functions", 400, b"rescoldo.dev/max-queue: 'many' is not allowed")
    status, _, err = run("deploy")
    assert status == 1 and "Error: stack.yaml:8: hello: " in err and "rescoldo.dev/max-queue: 'many'" in err


def test_describe_shows_the_limits_in_force(run, gateway):
    limits = {"concurrency": 1, "max_queue": 0, "exec_timeout": 1.5, "max_body": 6291456, "max_response": 0,
              "memory": 0, "cpu": 500, "max_files": 4096, "log_rate": 262144, "max_inflight": 1}  # fmt: skip
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "effectiveLimits": limits})
    out = run("describe", "hello")[1]
    assert re.search(r"Limits in force:\n +requests at once in an instance: 1\n +queued requests: 0\n", out)
    assert "duration of a call: 1.5 s\n" in out and "body of a request: 6.0 MiB\n" in out
    assert "response: no limit\n" in out and "cpu of an instance: 500m\n" in out
    assert "log output of an instance: 256.0 KiB a second\n" in out
    gateway.answer("GET /system/status", 200, {"isolation": {"level": "unprivileged", "limits": "none"}})
    out = run("describe", "hello")[1]
    assert "memory of an instance: no limit\n" in out
    assert "cpu of an instance: 500m (not enforced on this machine)\n" in out
    assert json.loads(run("describe", "hello", "--json")[1])["effectiveLimits"] == limits


@pytest.mark.parametrize(
    ("by", "idle"),
    [("none", ["memory", "cpu"]), ("memory polled", ["cpu"]), ("cgroup v2", [])],
)
def test_describe_says_which_limits_are_not_enforced(run, gateway, by, idle):
    limits = {"memory": 2**29, "cpu": 500}
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "effectiveLimits": limits})
    gateway.answer("GET /system/status", 200, {"isolation": {"level": "unprivileged", "limits": by}})
    out = run("describe", "hello")[1]
    assert re.findall(r"(\w+) of an instance: .* \(not enforced on this machine\)", out) == idle


COLD = {
    "calls": 12,
    "failed": {"crashed": 2, "timeout": 1, "busy": 0},
    "phases": {
        name: {"mean": 0.0031, "median": 0.003, "p99": 0.0121, "max": 0.5, "last": 0.00125}
        for name in ("queue", "first_byte", "total")
    },
}


def test_describe_shows_the_phases_of_cold_starts(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "coldStarts": COLD})
    gateway.answer("GET /system/status", 404)
    out = run("describe", "hello")[1]
    assert "Cold starts:  12 answered; failed wakes: 3 (2 crashed, 1 timeout)\n" in out
    table = [line.split() for line in out[out.index("PHASE") :].splitlines()]
    times = ["3.00", "ms", "12.10", "ms", "500.00", "ms", "1.25", "ms"]
    assert table == [
        ["PHASE", "MEDIAN", "P99", "MAX", "LAST"],
        ["queue", *times],
        ["first", "byte", *times],
        ["total", *times],
    ]


def test_describe_shows_the_last_failed_calls_first(run, gateway):
    calls = [
        {"callId": f"id-{n}", "at": f"2026-01-01T00:00:0{n}Z", "status": 502, "instance": "h-1", "reason": f"why {n}"}
        for n in range(2)
    ]
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "failures": calls})
    out = run("describe", "hello")[1]
    assert [line.split() for line in out[out.index("FAILED CALL") :].splitlines()[1:]] == [
        ["2026-01-01T00:00:01Z", "id-1", "502", "why", "1"],
        ["2026-01-01T00:00:00Z", "id-0", "502", "why", "0"],
    ]
    assert json.loads(run("describe", "hello", "--json")[1])["failures"] == calls


WHY = {
    "wanted": 5, "running": 4, "starting": 1, "minimum": 1, "maximum": 20,
    "metric": "concurrency", "target": 32.0, "utilization": 0.7, "windows": [60.0, 6.0],
    "look": {
        "ago": 0.21, "wanted": 5, "reason": "requests queue", "bound": "the maximum: 5", "stable": 40.25, "panic": 99.0,
        "panicking": True, "queued": 3,
    },
    "steps": [{"ago": 12.0, "before": 0, "after": 1, "reason": "woken"}],
    "sleep": "10 s after its last request ends",
}


def test_describe_with_why_shows_how_many_instances_there_are_and_why(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "why": WHY})
    gateway.answer("GET /system/status", 404)
    out = run("describe", "hello", "--why")[1]
    assert gateway.lines()[0] == "GET /system/function/hello?usage=1&why=1"
    assert out.partition("\n\n")[2] == (
        "Instances:    5 wanted, 4 running, 1 starting; at least 1 awake, at most 20\n"
        "Target:       22.4 requests at once per instance: 70% of 32\n"
        "Load:         40.2 over 60 s, 99.0 over 6 s, 3 queued; panic\n"
        "Decided:      5, 0.2 s ago: requests queue; bounded by the maximum: 5\n"
        "Sleeps:       10 s after its last request ends\n\n"
        "CHANGED   INSTANCES  BECAUSE\n"
        "12 s ago  0 -> 1     woken\n"
    )
    assert json.loads(run("describe", "hello", "--why", "--json")[1])["why"] == WHY


def test_describe_with_why_of_a_sleeping_function_says_what_wakes_it(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "why": {**WHY, "look": None, "steps": []}})
    gateway.answer("GET /system/status", 404)
    out = run("describe", "hello", "--why")[1]
    assert "Decided" not in out and "CHANGED" not in out and "Sleeps:" in out


def test_describe_shows_no_table_of_phases_before_the_first_cold_call(run, gateway):
    none = {"calls": 0, "failed": {}, "phases": {}}
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "coldStarts": none})
    gateway.answer("GET /system/status", 404)
    assert run("describe", "hello")[1].endswith("Cold starts:  0 answered\n")


def test_describe_says_what_the_unprivileged_level_lacks(run, gateway):
    gateway.answer("GET /system/function/hello", 200, STATUS)
    gateway.answer("GET /system/status", 200, {"isolation": {"level": "unprivileged", "limits": "none"}})
    out = run("describe", "hello")[1]
    assert re.search(r"Isolation: +unprivileged: shares its user with all functions; no limit of memory, no limit", out)


def test_describe_says_the_level_of_the_functions_worker(run, gateway):
    isolation = {"level": "unprivileged", "limits": "memory polled"}
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "isolation": isolation})
    out = run("describe", "hello")[1]
    assert gateway.lines() == ["GET /system/function/hello?usage=1"]
    assert re.search(r"Isolation: +unprivileged: shares .*; memory polled, no limit of cpu \(docs/security\.md\)", out)


def test_describe_says_where_a_function_finds_the_gateway(run, gateway):
    gateway.answer("GET /system/function/hello", 200, STATUS)
    for level in ("full", "unprivileged"):
        isolation = {"level": level, "gateway": "http://gateway.openfaas:8080, http://gateway:8080"}
        gateway.answer("GET /system/status", 200, {"isolation": isolation})
        out = run("describe", "hello")[1]
        assert re.search(r"Gateway: +http://gateway\.openfaas:8080, http://gateway:8080\n", out)
        assert "gateway" not in re.search(r"Isolation: .*", out)[0]


def test_describe_omits_isolation_if_the_gateway_does_not_report_it(run, gateway):
    gateway.answer("GET /system/function/hello", 200, STATUS)
    gateway.answer("GET /system/status", 404)
    status, out, _ = run("describe", "hello")
    assert status == 0 and "Isolation" not in out


def test_describe_of_another_namespace(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "namespace": "dev", "availableReplicas": 0})
    for argv in (["describe", "hello.dev"], ["describe", "hello", "-n", "dev"]):
        out = run(*argv)[1]
        assert gateway.calls[-2].path == "/system/function/hello?namespace=dev&usage=1"
        assert "/function/hello.dev\n" in out and re.search(r"Status: +Asleep\n", out)


def test_describe_of_an_unknown_function_says_so(run, gateway):
    gateway.answer("GET /system/function/hello", 404)
    missing = "Error: function hello.openfaas-fn is not deployed; see the names with: rescoldo list\n"
    assert run("describe", "hello") == (1, "", missing)


def test_scale_sends_the_body_of_the_contract(run, gateway):
    assert run("scale", "hello", "0") == (0, "Scaled hello to 0.\n", "")
    call = gateway.calls[0]
    assert call.line == "POST /system/scale-function/hello?namespace=openfaas-fn"
    assert call.json == {"serviceName": "hello", "replicas": 0, "namespace": "openfaas-fn"}
    assert run("scale", "hello", "--", "-1")[0] == 2


def test_ready_waits_for_health(run, gateway):
    gateway.answer("GET /healthz", 503)
    gateway.answer("GET /healthz", 200)
    status, out, err = run("ready", "--interval", "1ms")
    assert (status, out) == (0, "Ready.\n") and "[1/60]" in err
    assert gateway.lines() == ["GET /healthz"] * 2


def test_ready_of_a_function_gives_up_after_its_attempts(run, gateway):
    gateway.answer("GET /system/function/hello", 200, {**STATUS, "availableReplicas": 0})
    status, _, err = run("ready", "hello", "--attempts", "2", "--interval", "0s")
    assert status == 1 and err.endswith("Error: hello was not ready after 2 attempts: no replica is available\n")


def test_ready_of_an_empty_name_is_not_the_gateway(run, gateway):
    gateway.answer("GET /healthz", 200)
    assert run("ready")[0] == 0
    status, _, err = run("ready", "")  # a script's variable that is not set
    assert status == 1
    assert "function name '' is not valid" in err


def test_ready_says_that_the_function_is_not_deployed(run, gateway):
    gateway.answer("GET /system/function/hello", 404)
    err = run("ready", "hello", "--attempts", "1")[2]
    missing = "function hello.openfaas-fn is not deployed; see the names with: rescoldo list"
    assert f"[1/1] hello is not ready: {missing}\n" in err


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("ready", 0, "Ready."), ("asleep", 0, "Ready."),
        ("failing", 1, "hello is not ready. Failing: exit code 1\nValueError: no"),
        ("paused", 1, "hello is not ready. Paused"),
        ("deploying", 1, "hello was not ready after 2 attempts: Deploying"), ("starting", 1, "is not ready: Starting"),
    ],
)  # fmt: skip
def test_ready_of_a_function_depends_on_its_state(run, gateway, state, status, words):
    count = int(state == "ready")
    found = {**STATUS, "state": state, "replicas": count, "availableReplicas": count}
    if state == "failing":
        found["reason"] = "exit code 1\nValueError: no"
    gateway.answer("GET /system/function/hello", 200, found)
    code, out, err = run("ready", "hello", "--attempts", "2", "--interval", "0s")
    assert code == status and words in out + err
    asked_once = state not in ("deploying", "starting")
    assert len(gateway.calls) == (1 if asked_once else 2), "a final state needs one attempt"


def test_list_and_describe_show_the_state_and_why_it_fails(run, gateway):
    reason = "hello.openfaas-fn: handler.py line 1: ValueError: " + "x" * 300 + "\nTraceback"
    broken = {**STATUS, "replicas": 0, "availableReplicas": 0, "state": "failing", "reason": reason}
    gateway.answer("GET /system/functions", 200, [broken, {**broken, "name": "z", "state": "deploying", "reason": ""}])
    gateway.answer("GET /system/function/hello", 200, broken)
    first, second = run("list")[1].splitlines()[1:]
    assert "Failing: handler.py line 1: ValueError: xxx" in first and first.endswith("…")
    assert second.endswith("Deploying")
    assert f"Failing: {reason}\n" in run("describe", "hello")[1]


@pytest.mark.parametrize(("verb", "done"), [("pause", "Paused hello."), ("resume", "Resumed hello.")])
def test_pause_and_resume_call_the_gateway(run, gateway, verb, done):
    assert run(verb, "hello.dev") == (0, f"{done[:-1]}.dev.\n", "")
    assert gateway.lines() == [f"POST /system/function/hello/{verb}?namespace=dev"]
    assert json.loads(run(verb, "hello", "--json")[1]) == {"name": "hello", "paused": verb == "pause"}
    gateway.answer(f"POST /system/function/none/{verb}", 404)
    missing = "Error: function none.openfaas-fn is not deployed; see the names with: rescoldo list\n"
    assert run(verb, "none")[::2] == (1, missing)


# -- deploy, remove, up


def test_deploy_puts_then_posts_a_function_that_does_not_exist_yet(run, gateway):
    write_project(image="me/hello:1", environment="{A: b}", limits="{memory: 40Mi}")
    gateway.answer("PUT /system/functions", 404)
    status, out, _ = run("deploy")
    assert (status, out) == (0, f"hello  deployed  {gateway.url}/function/hello\n")
    put, post = gateway.changes()
    assert (put.line, post.line) == ("PUT /system/functions", "POST /system/functions")
    assert (
        put.json
        == post.json
        == {
            "service": "hello",
            "image": "me/hello:1",
            "envVars": {"A": "b"},
            "limits": {"memory": "40Mi"},
            "readOnlyRootFilesystem": False,
        }
    )


def test_flags_override_the_stack_file(run, gateway):
    write_project(environment="{A: b, C: d}", labels="{x: '1'}")
    argv = "deploy -n dev -e A=2 --label y=2=3 --annotation topic=t --secret s --memory-limit 1Gi --readonly"
    status, out, _ = run(*argv.split())
    assert status == 0 and f"{gateway.url}/function/hello.dev\n" in out
    body = gateway.changes()[0].json
    assert body["envVars"] == {"A": "2", "C": "d"} and body["labels"] == {"x": "1", "y": "2=3"}
    assert (body["namespace"], body["secrets"], body["annotations"]) == ("dev", ["s"], {"topic": "t"})
    assert body["limits"] == {"memory": "1Gi"} and body["readOnlyRootFilesystem"] is True


def test_deploy_without_a_stack_file(run, gateway):
    out = run("deploy", "--image", "me/x:1", "--name", "x", "--fprocess", "cat", "--json")[1]
    url = f"{gateway.url}/function/x"
    known = {"name": "x", "namespace": "openfaas-fn", "image": "me/x:1", "url": url}
    assert json.loads(out) == [{**known, "state": "deployed"}]
    assert gateway.changes()[0].json["envProcess"] == "cat"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("build", "--name", "hello"), "--filter"),  # the function to build is missing
        (("deploy", "-f", "stack.yaml", "--name", "hello", "--image", "i"), "--filter"),
        (("up", "hello", "--name", "hello", "--image", "i"), "--filter"),
        (("generate", "hello", "--from-store", "figlet"), "--from-store"),
        (("logs", "hello", "--tail", "10"), "--tail takes no value"),
        (("up", "--env", "nonsense"), "--env 'nonsense': write KEY=VALUE"),
        (("up", "--label", "=x"), "--label '=x': write KEY=VALUE"),
        (("watch", "--annotation", "a"), "--annotation 'a': write KEY=VALUE"),
    ],
)
def test_contradictory_or_invalid_flags_are_refused_before_anything_is_built(run, gateway, words, said):
    write_project()
    status, _, err = run(*words)
    assert status == 2 and said in err
    assert gateway.calls == [] and not Path("build").exists()


@pytest.mark.parametrize("verb", ["up --skip-build", "deploy"])
def test_deploy_of_a_name_deploys_no_other_function(run, gateway, verb):
    gateway.answer("GET /healthz", 200)
    write_project()
    with Path("stack.yaml").open("a") as file:
        file.write("  other: {lang: python3-http, handler: ./hello}\n")
    assert run(*verb.split(), "other")[0] == 0
    assert [call.json["service"] for call in gateway.changes() if call.path == "/system/functions"] == ["other"]


def test_build_of_a_name_builds_no_other_function(run, gateway):
    write_project()
    with Path("stack.yaml").open("a") as file:
        file.write("  other: {lang: python3-http, handler: ./hello}\n")
    assert run("build", "other")[0] == 0
    assert [path.name for path in Path("build").iterdir()] == ["other"]


def test_replace_removes_first(run, gateway):
    gateway.answer("DELETE /system/functions", 404)
    assert run("deploy", "--image", "i", "--name", "x", "--replace", "--update=false")[0] == 0
    assert gateway.lines() == ["DELETE /system/functions", "POST /system/functions"]
    assert gateway.calls[0].json == {"functionName": "x"}


def test_update_false_only_posts(run, gateway):
    assert run("deploy", "--image", "i", "--name", "x", "--update=false")[0] == 0
    assert gateway.lines() == ["POST /system/functions"]


def test_update_and_replace_exclude_each_other(run, gateway):
    assert run("deploy", "--image", "i", "--name", "x", "--update", "--replace")[0] == 2


def test_a_deployment_waits_for_its_start_and_fails_with_the_reason(run, gateway):
    write_project(skip_build="true", image="hello:1")
    gateway.answer("PUT /system/functions", 404)
    headers = {"X_Rescoldo_Rollout": "failing"}
    gateway.answer("POST /system/functions", 400, b"hello did not start: ImportError", **headers)
    status, out, err = run("deploy")
    assert status == 1 and "hello did not start: ImportError" in err and "Deployed" not in out
    assert {call.headers["Prefer"] for call in gateway.changes()} == {"wait=115"}


def test_no_start_asks_for_an_immediate_rollout(run, gateway):
    write_project(skip_build="true", image="hello:1")
    gateway.answer("PUT /system/functions", 404)
    assert run("deploy", "--no-start")[0] == 0
    sent = [line for line in gateway.lines() if not line.startswith("GET ")]
    assert sent == ["PUT /system/functions?rollout=immediate", "POST /system/functions?rollout=immediate"]
    assert not any("Prefer" in call.headers for call in gateway.calls)


def test_a_refused_deployment_shows_the_gateways_message(run, gateway):
    gateway.answer("PUT /system/functions", 400, b"memory: 'x' is not a size")
    status, _, err = run("deploy", "--image", "i", "--name", "x")
    assert (status, err) == (1, f"Error: command line: x: {gateway.url} answered 400: memory: 'x' is not a size\n")


def test_remove_takes_names_or_all_functions_of_the_stack_file(run, gateway):
    write_project(namespace="dev")
    assert run("remove", "--all")[:2] == (0, "hello.dev  removed\n")
    assert run("rm", "a", "b.dev", "-n", "prod")[1] == "a.prod  removed\nb.dev   removed\n2 functions: 2 removed.\n"
    first, *others = [call.json for call in gateway.calls]
    assert first == {"functionName": "hello", "namespace": "dev"}
    assert sorted(others, key=lambda sent: sent["functionName"]) == [
        {"functionName": "a", "namespace": "prod"},
        {"functionName": "b", "namespace": "dev"},
    ]


def test_remove_of_a_missing_function_says_so(run, gateway):
    gateway.answer("DELETE /system/functions", 404)
    reason = "function x.openfaas-fn is not deployed; see the names with: rescoldo list"
    assert run("remove", "x") == (1, f"x  failed  {reason}\n", f"Error: {reason}\n")


def test_up_builds_uploads_and_deploys(run, gateway):
    write_project()
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 404)
    # only a build gives the digest, and each build gives the same one
    assert run("build", "-q") == (0, "", "")
    digest = json.loads(run("build", "--json")[1])["hello"]["digest"]
    gateway.answer("POST /system/bundles", 201, {"image": "hello:latest", "digest": digest, "size": 1})
    status, out, err = run("up")
    assert status == 0, err
    assert out == f"hello  deployed  {gateway.url}/function/hello\n"
    assert gateway.lines()[0] == "GET /healthz"
    assert [call.line for call in gateway.changes()] == [
        f"POST /system/bundles?image=hello%3Alatest&digest={digest}",
        "POST /system/bundles?image=hello%3Alatest",
        "PUT /system/functions",
    ]
    tag, sent, _ = gateway.changes()
    assert tag.body == b"" and sent.body == Path("build/hello/bundle.tar.gz").read_bytes()
    assert sent.headers["Content-Type"] == "application/gzip"
    assert sent.headers["X-Rescoldo-Digest"] == digest and "Transfer-Encoding" not in sent.headers


@pytest.fixture
def layered(monkeypatch, tmp_path):
    """A project with a requirement, built without an installer."""
    write_project()
    Path("hello/requirements.txt").write_text("alpha\n")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def install(argv, work, on_line):
        (work / "deps" / "alpha.py").write_text("")
        return 0

    monkeypatch.setattr("rescoldo.cli.project.run_installer", install)


def test_a_layer_is_uploaded_before_the_bundle_that_names_it(run, gateway, layered):
    built = json.loads(run("build", "--json")[1])["hello"]
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 404)
    gateway.answer("GET " + (place := f"/system/layers/{built['layer']['digest']}"), 404)
    gateway.answer("POST /system/layers", 201, {"digest": built["layer"]["digest"]})
    gateway.answer("POST /system/bundles", 201, {"digest": built["digest"]})
    status, _, err = run("up")
    assert status == 0, err
    # `up` also asks whether a platform answers, and a deployment asks more: neither matters here
    asked = [line.partition("?")[0] for line in gateway.lines()]
    lines = [line for line in asked if "/system/bundles" in line or "/system/layers" in line]
    posts = ["POST /system/bundles", f"GET {place}", "POST /system/layers", "POST /system/bundles"]
    assert lines == posts
    (sent,) = [call for call in gateway.calls if call.line.startswith("POST /system/layers")]
    assert sent.body == Path("build/hello/layer.tar.gz").read_bytes() and len(sent.body) == built["layer"]["size"]
    assert sent.headers["X-Rescoldo-Digest"] == built["layer"]["digest"]


def test_a_layer_that_the_gateway_has_is_not_uploaded_again(run, gateway, layered):
    built = json.loads(run("build", "--json")[1])["hello"]
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 404)
    gateway.answer(f"GET /system/layers/{built['layer']['digest']}", 200, {"digest": built["layer"]["digest"]})
    gateway.answer("POST /system/bundles", 201, {"digest": built["digest"]})
    assert run("up")[0] == 0
    assert "POST /system/layers" not in [line.partition("?")[0] for line in gateway.lines()]


def test_a_layer_missing_on_this_machine_is_named(run, gateway, layered):
    gateway.answer("POST /system/bundles", 404)
    digest = json.loads(run("build", "--json")[1])["hello"]["layer"]["digest"]
    Path("build/hello/layer.tar.gz").unlink()
    gateway.answer(f"GET /system/layers/{digest}", 404)
    assert "build/hello/layer.tar.gz, the requirements of the bundle beside it, is missing" in run("deploy")[2]


def test_a_bundle_that_the_gateway_has_is_not_uploaded_again(run, gateway):
    write_project()
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 200, {"image": "hello:latest", "digest": "d", "size": 1})
    assert run("up")[0] == 0
    assert [call.line.split("?")[0] for call in gateway.changes()] == ["POST /system/bundles", "PUT /system/functions"]


def test_a_gateway_that_does_not_accept_bundles_gets_a_message(run, gateway):
    write_project()
    gateway.answer("GET /healthz", 200)
    gateway.answer("POST /system/bundles", 404)
    assert "takes no bundles: it is not a rescoldo gateway" in run("up")[2]


def test_a_handler_that_does_not_compile_is_neither_uploaded_nor_deployed(run, gateway):
    write_project()
    Path("hello/handler.py").write_text("def handle(:\n")
    status, out, err = run("up")
    said = "stack.yaml:3: hello was not built: hello/handler.py:1: "
    assert status == 1 and f"Error: {said}" in err and out.startswith(f"hello  failed  {said}")
    assert gateway.changes() == []


def test_up_can_stop_after_the_build(run, gateway):
    write_project()
    assert run("up", "--skip-deploy")[0] == 0
    assert gateway.calls == [] and Path("build/hello/bundle.tar.gz").is_file()


def test_a_function_with_skip_build_is_deployed_and_not_built(run, gateway):
    write_project(skip_build="true", image="old:1")
    gateway.answer("GET /healthz", 200)
    status, _, err = run("up")
    assert status == 0 and "hello: skip_build, not built" in err
    assert [call.line for call in gateway.changes()] == ["PUT /system/functions"] and not Path("build").exists()


# -- invoke, logs


def test_invoke_sends_stdin_and_prints_the_bytes(gateway, stdin, capfdbinary):
    stdin(b"\x00body")
    gateway.answer("POST /function/hello.openfaas-fn", 200, b"\xff\x00raw")
    assert main(["invoke", "hello"]) == 0
    assert capfdbinary.readouterr().out == b"\xff\x00raw"
    (call,) = gateway.calls
    assert (call.body, call.headers["Content-Type"]) == (b"\x00body", "text/plain")
    assert "Authorization" not in call.headers


def test_invoke_signs_the_body(run, gateway, stdin):
    stdin(b"hello")
    gateway.answer("POST /function/hello.openfaas-fn", 200)
    assert run("invoke", "hello", "--sign", "X-Hub-Signature-256", "--key", "secret")[0] == 0
    # as `openssl dgst -sha256 -hmac secret` prints it
    digest = "88aab3ede8d3adf94d26ab90d3bafd4a2083070c3bcce9c014ee04a443847c0b"
    assert gateway.calls[0].headers["X-Hub-Signature-256"] == f"sha256={digest}"
    assert run("invoke", "hello", "--sign", "X-S")[0] == 2


def test_invoke_with_all_flags(run, gateway, stdin):
    stdin(b"{}")
    gateway.answer("PUT /function/hello.dev", 200, b"ok")
    argv = ["-m", "put", "--query", "a=1 2", "--query", "a=3", "-H", "X-A: b=c", "-H", "X-B=d", "-n", "dev"]
    assert run("invoke", "hello", *argv, "--content-type", "application/json")[:2] == (0, "ok")
    (call,) = gateway.calls
    assert call.line == "PUT /function/hello.dev?a=1+2&a=3"
    assert (call.headers["X-A"], call.headers["X-B"]) == ("b=c", "d")
    assert call.headers["Content-Type"] == "application/json"


def test_a_call_that_fails_shows_status_and_body(run, gateway, stdin):
    stdin(b"")
    gateway.answer("POST /function/hello.openfaas-fn", 500, b"the function raised ValueError")
    assert run("invoke", "hello") == (
        1,
        "",
        "Error: hello.openfaas-fn answered 500: the function raised ValueError\n",
    )


def test_an_asynchronous_call_shows_the_gateways_response(run, gateway, stdin):
    stdin(b"")
    gateway.answer("POST /async-function/hello.openfaas-fn", 501, b"does not exist yet")
    assert "answered 501: does not exist yet" in run("invoke", "-a", "hello")[2]
    gateway.answer("POST /async-function/x.openfaas-fn", 202)
    stdin(b"")
    assert run("invoke", "--async", "x")[1] == "Function submitted asynchronously.\n"


def test_logs_are_printed_line_by_line(run, gateway):
    entry = {
        "name": "hello",
        "namespace": "openfaas-fn",
        "instance": "i1",
        "timestamp": "2026-01-02T03:04:05Z",
        "text": "Hi",
    }
    gateway.answer("GET /system/logs", 200, (json.dumps(entry) + "\n").encode() * 2)
    assert run("logs", "hello", "--tail=false", "--lines", "5")[1] == "2026-01-02T03:04:05Z hello (i1) Hi\n" * 2
    assert gateway.lines() == ["GET /system/logs?name=hello&follow=false&tail=5"]
    assert run("logs", "hello", "--instance=false", "--no-name", "--no-follow")[1] == "2026-01-02T03:04:05Z Hi\n" * 2
    out = run("logs", "hello", "--json", "--since", "10m", "--no-follow")[1]
    assert [json.loads(line) for line in out.splitlines()] == [entry, entry]
    assert re.search(r"since=20\d\d-\d\d-\d\dT\d\d%3A\d\d%3A\d\dZ", gateway.calls[-1].path)


def test_logs_of_an_unknown_function_say_so(run, gateway):
    gateway.answer("GET /system/logs", 404)
    assert run("logs", "x")[2] == "Error: function x.openfaas-fn is not deployed; see the names with: rescoldo list\n"


# -- status


def test_status_shows_processes_and_counts(run, gateway):
    data = {
        "version": "0.1.0",
        "data": "/d",
        "started_at": 1767323045.5,
        "functions": {"known": 3, "awake": 1},
        "processes": [{"name": "edge", "pid": 12, "memory": 2**21}],
    }
    gateway.answer("GET /system/status", 200, data)
    out = run("status")[1]
    assert "functions:    known 3, awake 1\n" in out and "started_at:   2026-01-02T03:04:05Z (" in out
    assert out.endswith("\nPROCESS  PID  MEMORY\nedge      12  2.0 MiB\n")
    assert json.loads(run("status", "--json")[1]) == data


# -- credentials and gateways


def test_a_saved_password_is_sent_and_shared_with_faas_cli(run, gateway, home, stdin):
    gateway.answer("GET /system/functions", 200, [])
    stdin(b"secret\n")
    assert run("login", "--password-stdin")[0] == 0
    file = home / ".openfaas/config.yml"
    token = base64.b64encode(b"admin:secret").decode()
    assert file.read_text() == f"auths:\n- gateway: {gateway.url}\n  auth: basic\n  token: {token}\n"
    assert file.stat().st_mode & 0o777 == 0o600
    run("list")
    assert [call.headers.get("Authorization") for call in gateway.calls] == [f"Basic {token}"] * 2
    assert run("logout")[:2] == (0, f"Removed the password for {gateway.url}.\n")
    run("list")
    assert "Authorization" not in gateway.calls[-1].headers
    assert run("logout")[2] == f"No password is saved for {gateway.url}.\n"


def test_login_keeps_entries_that_faas_cli_wrote(run, gateway, home):
    gateway.answer("GET /system/functions", 200, [])
    file = home / ".openfaas/config.yml"
    file.parent.mkdir()
    file.write_text("auths:\n- gateway: https://other\n  auth: oauth2\n  token: t\n  options: []\nextra: 1\n")
    assert run("login", "-p", "x")[0] == 0
    text = file.read_text()
    assert "https://other" in text and "options: []" in text and "extra: '1'" in text and gateway.url in text


def test_a_wrong_password_is_not_saved(run, gateway, home):
    gateway.answer("GET /system/functions", 401)
    status, _, err = run("login", "-u", "me", "-p", "bad")
    assert (status, err) == (1, f"Error: {gateway.url}: wrong username or password\n")
    assert not (home / ".openfaas").exists()


def test_an_unauthorized_call_names_the_remedy(run, gateway):
    gateway.answer("GET /system/functions", 401)
    assert run("list")[2] == f"Error: unauthorized access to {gateway.url}, run `rescoldo login`\n"


def test_the_local_platforms_password_is_used_on_this_machine(run, gateway, home):
    gateway.answer("GET /system/functions", 200, [])
    secrets = home / ".local/share/rescoldo/secrets"
    secrets.mkdir(parents=True)
    (secrets / "basic-auth-user").write_text("admin\n")
    (secrets / "basic-auth-password").write_text("local\n")
    run("list")
    assert gateway.calls[0].headers["Authorization"] == "Basic " + base64.b64encode(b"admin:local").decode()
    run("list", "--token", "abc")
    assert gateway.calls[1].headers["Authorization"] == "Bearer abc"


def test_the_local_password_never_leaves_this_machine(home):
    secrets = home / "data/secrets"
    secrets.mkdir(parents=True)
    (secrets / "basic-auth-user").write_text("admin")
    (secrets / "basic-auth-password").write_text("local")
    assert authorization("http://[::1]:8080", "", home / "data").startswith("Basic ")
    for url in ("http://10.0.0.1:8080", "http://127.0.0.1.example.com", "https://localhost.evil.test"):
        assert authorization(url, "", home / "data") == ""


def test_a_gateway_that_does_not_answer_names_its_url_and_the_remedy(run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        status, _, err = run("list", "-g", url)
    assert status == 1 and f"no gateway answers at {url}; start one with `rescoldo serve`" in err


def test_the_gateway_is_chosen_by_flag_then_environment_then_stack(monkeypatch):
    assert choose_gateway("", "") == "http://127.0.0.1:8080"
    assert choose_gateway("", "http://stack:1/") == "http://stack:1"
    monkeypatch.setenv("OPENFAAS_URL", "https://env")
    assert choose_gateway("", "http://stack:1") == "https://env"
    assert choose_gateway("flag:9", "http://stack:1") == "http://flag:9"
    with pytest.raises(InvalidInput, match="is not a URL"):
        choose_gateway("ftp://x")


def test_a_proxy_of_the_environment_is_not_used_for_loopback(monkeypatch, gateway):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    gateway.answer("GET /healthz", 200)
    with Gateway(gateway.url) as opened:
        assert opened.answers()


def test_a_broken_stack_file_does_not_matter_if_the_gateway_is_named(run, gateway):
    Path("stack.yaml").write_text("nonsense: [")
    gateway.answer("GET /system/functions", 200, [])
    assert run("list")[0] == 0


PRINTED = "\x1b[31mred\x1b[0m \x1b[2J\x1b]0;title\x07 50%\r"


def test_log_lines_go_into_a_pipe_unchanged(run, gateway):
    gateway.answer("GET /system/logs", 200, (json.dumps({"name": "hello", "text": PRINTED}) + "\n").encode())
    assert run("logs", "hello", "--no-instance", "--no-name", "--no-follow")[1].strip(" \n") == PRINTED


def test_log_lines_cannot_control_a_terminal(run, gateway, monkeypatch):
    gateway.answer("GET /system/logs", 200, (json.dumps({"name": "hello", "text": PRINTED}) + "\n").encode())
    monkeypatch.setattr("rescoldo.cli.output.on_terminal", lambda: True)
    out = run("logs", "hello", "--no-instance", "--no-name", "--no-follow")[1]
    assert out == " red \\x1b[2J\\x1b]0;title\\x07 50%\\r\n"


def test_verbs_escape_control_characters_in_responses(run, gateway):
    reason = "hello.ns: bad \x1b[2J \x9b \u202e"
    revision = {"revision": 1, "createdAt": "", "image": "i\x1b[2J", "digest": "", "state": "failed", "current": False,
                "traffic": 0, "replicas": 0, "reason": reason}  # fmt: skip
    gateway.answer("GET /system/function/hello/revisions", 200, [revision])
    for out in (run("revisions", "hello")[1], run("revisions", "hello", "--json")[1]):
        assert out.replace("\n", "").isprintable()
    gateway.answer("POST /system/function/hello/rollback", 500, reason.encode())
    assert run("rollback", "hello")[2].replace("\n", "").isprintable()


def test_followed_logs_resume_after_an_interruption_without_losing_or_repeating_a_line(run, gateway, monkeypatch):
    def lines(*entries):
        return b"".join(
            json.dumps({"name": "hello", "instance": one, "timestamp": at, "text": text}).encode() + b"\n"
            for one, at, text in entries
        )

    moments = [f"2026-01-02T03:04:0{second}Z" for second in range(3)]
    first = (("i1", moments[0], "a"), ("i1", moments[1], "b"), ("i1", moments[1], "c"), ("", moments[1], "failed"))
    gateway.answer("GET /system/logs", 200, lines(*first))
    gateway.answer("GET /system/logs", 503, b"the node is restarting")
    gateway.answer("GET /system/logs", 200, lines(
        ("i1", moments[1], "b"), ("i1", moments[1], "c"), ("", moments[1], "failed"), ("", moments[1], "left out"),
        ("i2", moments[1], "d"), ("i2", moments[2], "e"),
    ))  # fmt: skip
    gateway.answer("GET /system/logs", 404)
    monkeypatch.setattr("rescoldo.cli.verbs.logs.RETRY_PAUSE", 0.0)
    _, out, error = run("logs", "hello", "--lines", "3", "--no-name", "--no-instance")
    assert [line.split()[-1] for line in out.splitlines()] == ["a", "b", "c", "failed", "out", "d", "e"]
    assert "function hello.openfaas-fn is not deployed" in error
    assert gateway.lines()[0] == "GET /system/logs?name=hello&follow=true&tail=3"
    assert gateway.lines()[1] == f"GET /system/logs?name=hello&follow=true&since={moments[1].replace(':', '%3A')}"


def test_following_logs_ends_if_the_gateway_stays_away(run, gateway, monkeypatch):
    gateway.answer("GET /system/logs", 200, b"")
    gateway.answer("GET /system/logs", 503, b"the node is restarting")
    monkeypatch.setattr("rescoldo.cli.verbs.logs.RETRY_PAUSE", 0.0)
    monkeypatch.setattr("rescoldo.cli.verbs.logs.PATIENCE", 0.0)
    assert "the node is restarting" in run("logs", "hello")[2]


@pytest.mark.parametrize(("saved", "asked"), [
    ("http://localhost:8080/", "http://127.0.0.1:8080"),
    ("http://127.0.0.1:8080", "http://[::1]:8080"),
    ("http://gateway.example", "http://GATEWAY.example:80/"),
    ("https://gateway.example:443/", "https://gateway.example"),
])  # fmt: skip
def test_equivalent_addresses_of_a_gateway_share_its_password(saved, asked):
    save(saved, "me", "x")
    assert authorization(asked, "", None) == f"Basic {basic('me', 'x')}"
    save(asked, "me", "y")
    assert len(known()) == 1, "the second password replaces the first"
    assert forget(saved)
    assert authorization("https://gateway.example:8443", "", None) == ""


@pytest.mark.parametrize("other", [
    "https://gateway.example", "http://gateway.example:81", "http://gateway.example/below", "http://gateway.example:x",
])  # fmt: skip
def test_another_scheme_port_or_path_is_another_gateway(other):
    save("http://gateway.example", "me", "x")
    assert authorization(other, "", None) == ""


def test_every_source_of_a_password_strips_white_space_alike(run, gateway, stdin, tmp_path):
    gateway.answer("GET /system/functions", 200, [])
    headers = []
    stdin(b"  s3 cret \r\n")
    assert run("login", "--password-stdin")[0] == 0
    assert run("login", "-p", "  s3 cret ")[0] == 0
    headers = {call.headers["Authorization"] for call in gateway.calls if call.path == "/system/functions"}
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "basic-auth-user").write_text("admin\n")
    (folder / "basic-auth-password").write_text("  s3 cret \n")
    there = load_or_create(folder)
    assert headers == {f"Basic {basic(there.user, there.password)}"} == {f"Basic {basic('admin', 's3 cret')}"}


def test_an_unauthorized_call_names_the_gateways_with_saved_passwords(run, gateway):
    save("https://elsewhere.example", "me", "x")
    gateway.answer("GET /system/functions", 401)
    assert "passwords are saved for: https://elsewhere.example" in run("list")[2]


# -- the path, status and times of a call


@pytest.mark.parametrize(
    ("words", "path"),
    [
        (("hello/a/b",), "/a/b"),
        (("hello.dev/a?x=1", "-m", "GET"), "/a?x=1"),
        (("hello", "--path", "a b/%20c", "--query", "y=2"), "/a%20b/%20c?y=2"),
        (("hello", "--path", "/a?x=1", "--query", "y=2"), "/a?x=1&y=2"),
        (("hello", "--path", "?x=1"), "?x=1"),
        (("hello/",), ""),
        (("hello/ä#b",), "/%C3%A4%23b"),
    ],
)
def test_invoke_calls_a_path_below_the_function(run, gateway, stdin, words, path):
    stdin(b"")
    run("invoke", *words)
    assert gateway.calls[0].path.partition("hello")[2].removeprefix(".dev").removeprefix(".openfaas-fn") == path


def test_invoke_with_two_paths_is_refused(run, gateway, stdin):
    stdin(b"")
    assert run("invoke", "hello/a", "--path", "b")[0] == 2
    assert gateway.calls == []


def test_invoke_with_i_shows_status_headers_and_times_also_of_failures(run, gateway, stdin):
    for status in (200, 404):
        gateway.answers.clear()
        headers = {"X_Cold_Start": "true", "X_Duration_Seconds": "0.004", "X_Own": "1"}
        gateway.answer("POST /function/hello.openfaas-fn", status, b"body", **headers)
        stdin(b"")
        code, out, err = run("invoke", "hello", "-i")
        head, _, body = out.partition("\n\n")
        assert (code, body) == (0 if status == 200 else 1, "body")
        assert head.splitlines()[0].startswith(f"HTTP/1.1 {status} ") and "x-own: 1" in head.lower()
        assert re.search(r"First byte after .* m?s, complete after .* m?s; 0.004 s spent in the function; cold", err)


def test_invoke_as_json_has_status_headers_body_and_times(run, gateway, stdin):
    gateway.answer("POST /function/hello.openfaas-fn", 500, b"no", X_Own="1")
    stdin(b"")
    status, out, _ = run("invoke", "hello", "--json")
    found = json.loads(out)
    assert (status, found["status"], found["body"], found["headers"]["x-own"]) == (1, 500, "no", "1")
    assert 0 < found["seconds"]["first"] <= found["seconds"]["all"] < 60
    gateway.answers.clear()
    gateway.answer("POST /function/hello.openfaas-fn", 200, b"\xff\x00")
    stdin(b"")
    assert base64.b64decode(json.loads(run("invoke", "hello", "--json")[1])["body_base64"]) == b"\xff\x00"


def test_a_get_from_a_terminal_does_not_wait_for_a_body(run, gateway, monkeypatch):
    monkeypatch.setattr("sys.stdin", type("Terminal", (), {"isatty": lambda self: True})())
    gateway.answer("GET /function/hello.openfaas-fn", 200, b"ok")
    assert run("invoke", "hello", "-X", "GET")[:2] == (0, "ok")


def test_logs_on_a_terminal_say_that_they_wait(run, gateway, monkeypatch):
    gateway.answer("GET /system/logs", 404)
    assert "Waiting" not in run("logs", "hello")[2]
    monkeypatch.setattr("rescoldo.cli.verbs.logs.on_terminal", lambda: True)
    assert run("logs", "hello")[2].startswith("Following the log of hello; press Ctrl-C to stop.\n")
    assert "Waiting" not in run("logs", "hello", "--no-follow")[2]
