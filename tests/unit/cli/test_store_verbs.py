import json
from pathlib import Path

import pytest

from rescoldo.stack.store import architecture_here

HERE = architecture_here()
FIGLET = {
    "title": "Figlet",
    "name": "figlet",
    "description": "Large letters " * 10,
    "author": "openfaas",
    "images": {HERE: "ghcr.io/openfaas/figlet:latest", "s390x": "ghcr.io/openfaas/figlet:s390x"},
    "fprocess": "figlet",
    "environment": {"A": "b"},
    "labels": {"l": "m"},
    "readOnlyRootFilesystem": True,
    "repo_url": "https://example.com/figlet",
}


@pytest.fixture(autouse=True)
def store(monkeypatch):
    other = {"name": "other", "images": {"s390x": "x"}, "environment": None, "icon": "unknown keys are no matter"}
    Path("store.json").write_text(json.dumps({"version": "0.2.0", "functions": [other, FIGLET]}))
    monkeypatch.setenv("OPENFAAS_STORE", "store.json")


def test_the_list_has_the_functions_for_this_architecture(run):
    status, out, _ = run("store", "list")
    head, line = out.splitlines()
    assert status == 0 and head.split() == ["FUNCTION", "AUTHOR", "DESCRIPTION"]
    assert line.startswith("figlet") and line.endswith("…") and len(line) < 90
    assert run("store", "list", "-v")[1].splitlines()[1].endswith("ghcr.io/openfaas/figlet:latest")
    found = json.loads(run("store", "list", "--platform", "s390x", "--json")[1])
    assert [item["name"] for item in found] == ["figlet", "other"]


def test_a_function_is_shown_in_full(run):
    out = run("store", "inspect", "figlet")[1]
    for word in ("Figlet", "ghcr.io/openfaas/figlet:latest", "A=b", "l=m", "https://example.com/figlet", "s390x"):
        assert word in out
    shown = json.loads(run("store", "inspect", "figlet", "--json")[1])
    assert {key: shown[key] for key in FIGLET} == FIGLET


def test_a_store_may_be_a_url(run, gateway):
    gateway.answer("GET /store.json", 200, {"functions": [FIGLET]})
    assert "figlet" in run("store", "list", "--url", f"{gateway.url}/store.json")[1]


def test_an_image_known_to_the_platform_is_deployed_and_flags_override_the_store(run, gateway):
    gateway.answer("GET /system/bundles", 200, [{"image": FIGLET["images"][HERE], "digest": "d"}])
    status, out, _ = run("store", "deploy", "figlet", "--name", "letters", "-e", "A=c", "--label", "x=y")
    assert status == 0 and out == f"letters  deployed  {gateway.url}/function/letters\n"
    assert gateway.lines()[-1] == "PUT /system/functions"
    assert gateway.calls[-1].json == {
        "service": "letters",
        "image": "ghcr.io/openfaas/figlet:latest",
        "envProcess": "figlet",
        "envVars": {"A": "c"},
        "labels": {"l": "m", "x": "y"},
        "readOnlyRootFilesystem": True,
    }


def test_a_gateway_without_bundles_pulls_the_image_itself(run, gateway):
    gateway.answer("GET /system/bundles", 404)
    assert json.loads(run("store", "deploy", "figlet", "--json")[1])["name"] == "figlet"
    assert gateway.lines()[-1] == "PUT /system/functions"


def test_a_container_image_is_refused_with_the_remedy_and_nothing_is_deployed(run, gateway):
    gateway.answer("GET /system/bundles", 200, [])
    status, _, err = run("store", "deploy", "figlet")
    assert status == 1 and "which needs a cluster" in err and "image: ghcr.io/openfaas/figlet:latest" in err
    assert [line.split()[0] for line in gateway.lines()] == ["GET"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["inspect", "figlte"], "store.json has no 'figlte' (did you mean 'figlet'?)"),
        (["inspect", "figlet", "-p", "riscv"], "figlet is not available for riscv, only for"),
        (["deploy", "figlet", "--name", "A_b"], "function name 'A_b' is not valid"),
        (["list", "-u", "none.json"], "none.json: cannot be read"),
    ],
)
def test_unknown_or_invalid_arguments_get_a_message(run, argv, said):
    status, _, err = run("store", *argv)
    assert status == 1 and said in err


@pytest.mark.parametrize("text", ["", "[]", "{", '{"functions": [{"title": "x"}]}', '{"functions": 5}'])
def test_a_file_that_is_not_a_store_is_refused(run, text):
    Path("store.json").write_text(text)
    status, _, err = run("store", "list")
    assert status == 1 and err.startswith("Error: store.json: not a store: ")
