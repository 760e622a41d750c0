"""`rescoldo revisions`, `rollback` and `traffic`, against a gateway that records its requests."""

import json

import pytest

REVISIONS = [
    {
        "revision": 3, "createdAt": "2026-01-02T03:04:05Z", "image": "hello:2", "digest": "b" * 64, "state": "failed",
        "reason": "exit code 1\nTraceback\nValueError: no", "current": False, "traffic": 0, "replicas": 0,
    },
    {
        "revision": 2, "createdAt": "2026-01-01T03:04:05Z", "image": "hello:1", "digest": "a" * 64, "state": "serving",
        "reason": "", "current": True, "traffic": 100, "replicas": 1,
    },
]
PATH = "/system/function/hello"


def test_revisions_are_listed_in_columns(run, gateway):
    gateway.answer(f"GET {PATH}/revisions", 200, REVISIONS)
    status, out, _ = run("revisions", "hello")
    head, failed, serving = out.splitlines()
    assert status == 0 and head.split()[:2] == ["Revision", "Created"]
    assert failed.split() == [
        "3", "2026-01-02T03:04:05Z", "hello:2", "b" * 12, "failed", "0%", "0", "ValueError:", "no",
    ]
    assert "serving, current" in serving and "100%" in serving


def test_a_long_reason_is_cut_to_a_readable_line(run, gateway):
    gateway.answer(f"GET {PATH}/revisions", 200, [{**REVISIONS[0], "reason": "x" * 5000}])
    assert run("revisions", "hello")[1].splitlines()[1].endswith("  " + "x" * 199 + "…")


def test_revisions_with_json_print_the_gateways_response(run, gateway):
    gateway.answer(f"GET {PATH}/revisions", 200, REVISIONS)
    assert json.loads(run("revisions", "hello", "--json")[1]) == REVISIONS


@pytest.mark.parametrize(
    ("flags", "body"), [((), {}), (("--revision", "4"), {"revision": 4}), (("4",), {"revision": 4})]
)
def test_a_rollback_prints_the_serving_revision(run, gateway, flags, body):
    gateway.answer(f"POST {PATH}/rollback", 200, {"revision": 7})
    assert run("rollback", "hello", *flags) == (0, "hello serves revision 7.\n", "")
    assert gateway.calls[0].json == body
    assert json.loads(run("rollback", "hello", "--json")[1]) == {
        "name": "hello", "namespace": "openfaas-fn", "revision": 7,
    }


def test_a_rollback_to_two_revisions_is_refused(run, gateway):
    assert run("rollback", "hello", "3", "--revision", "4")[0] == 2
    assert gateway.calls == []


def test_revisions_show_the_changes_from_the_one_before(run, gateway):
    first = {"service": "hello", "image": "hello:1", "envVars": {"MARK": "!", "OLD": "1"}, "secrets": ["a"]}
    second = {**first, "image": "hello:2", "envVars": {"MARK": "?"}, "limits": {"memory": "64Mi"}}
    failed, serving = REVISIONS
    found = [{**failed, "deployment": second}, {**serving, "deployment": first}]
    gateway.answer(f"GET {PATH}/revisions", 200, found)
    _, above, below = run("revisions", "hello")[1].splitlines()
    assert "code, image, envVars.MARK, envVars.OLD, limits.memory" in above and "envVars" not in below
    changes = json.loads(run("revisions", "hello", "--json")[1])[0]["changes"]
    assert {"field": "envVars.MARK", "deployed": "!", "wanted": "?"} in changes
    assert {"field": "envVars.OLD", "deployed": "1", "wanted": None} in changes


def test_a_refused_rollback_says_why(run, gateway):
    gateway.answer(f"POST {PATH}/rollback", 400, b"revision 7 of hello.dev did not start", X_Rescoldo_Rollout="failed")
    status, out, err = run("rollback", "hello.dev")
    assert (status, out, err) == (1, "", "Error: revision 7 of hello.dev did not start\n")
    assert gateway.calls[0].path == f"{PATH}/rollback?namespace=dev"


def test_traffic_is_sent_by_revision(run, gateway):
    assert run("traffic", "hello", "3=90", "4=10") == (
        0, "hello: 10 % to revision 4, 90 % to revision 3\n", "",
    )
    assert gateway.calls[0].line == f"PUT {PATH}/traffic?namespace=openfaas-fn"
    assert gateway.calls[0].json == {"traffic": {"4": 10, "3": 90}}
    assert json.loads(run("traffic", "hello", "3=100", "--json")[1])["traffic"] == {"3": 100}


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        (["3"], "'3' is not REVISION=PERCENT"),
        (["3=9.5"], "write for example 3=90 4=10"),
        (["3=50", "3=50"], "revision 3 is named twice"),
        (["3=90", "4=9"], "99 % together"),
        (["3=" + "9" * 50], "is not REVISION=PERCENT"),
    ],
)
def test_invalid_shares_are_refused_before_anything_is_sent(run, gateway, shares, said):
    status, _, err = run("traffic", "hello", *shares)
    assert status == 1 and said in err
    assert gateway.calls == []


@pytest.mark.parametrize("argv", [["revisions", "hello"], ["rollback", "hello"], ["traffic", "hello", "1=100"]])
def test_an_unknown_function_gets_a_message(run, gateway, argv):
    for line in (f"GET {PATH}/revisions", f"POST {PATH}/rollback", f"PUT {PATH}/traffic"):
        gateway.answer(line, 404)
    missing = "Error: function hello.openfaas-fn is not deployed; see the names with: rescoldo list\n"
    assert run(*argv) == (1, "", missing)
