"""`rescoldo secret` and `rescoldo namespace`, against a server that records its requests."""

import base64
import json
import re
from pathlib import Path

import pytest

# -- secret


def test_a_secret_is_created_from_a_literal_a_file_or_standard_input(run, gateway, stdin):
    Path("key").write_text("from a file\n")
    stdin(b"from stdin\n")
    for words in (("--from-literal", " literal "), ("--from-file", "key"), ()):
        status, out, err = run("secret", "create", "api-key", *words)
        assert (status, out, err) == (0, "Created secret api-key in namespace openfaas-fn.\n", "")
    assert gateway.lines() == ["POST /system/secrets"] * 3
    values = ["literal", "from a file", "from stdin"]
    assert [call.json for call in gateway.calls] == [{"name": "api-key", "value": value} for value in values]


def test_white_space_is_kept_on_request(run, gateway):
    Path("key").write_text(" x\n")
    for spelling in ("--no-trim", "--trim=false"):
        assert run("secret", "create", "key", "--from-file", "key", spelling)[0] == 0
        assert gateway.calls[-1].json["value"] == " x\n"


def test_binary_secrets_are_sent_unchanged_as_base64(run, gateway, stdin):
    raw = b"\n\xff\x00 "
    stdin(raw)
    assert run("secret", "create", "key", "-n", "dev")[0] == 0
    encoded = base64.b64encode(raw).decode()
    assert gateway.calls[0].json == {"name": "key", "namespace": "dev", "rawValue": encoded}


def test_a_terminal_prompts_for_a_secret_and_hides_it(run, gateway, monkeypatch):
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda prompt: "s3cret")
    status, out, err = run("secret", "create", "key")
    assert status == 0 and "s3cret" not in out + err
    assert gateway.calls[0].json["value"] == "s3cret"


def test_create_with_replace_updates_an_existing_secret(run, gateway):
    gateway.answer("POST /system/secrets", 409, b"secret key exists already in namespace dev; update it instead")
    status, _, err = run("secret", "create", "key", "--from-literal", "s3cret")
    assert status == 1 and "update it instead" in err and "s3cret" not in err
    assert run("secret", "create", "key", "--from-literal", "s3cret", "--replace")[0] == 0
    assert gateway.lines() == ["POST /system/secrets", "POST /system/secrets", "PUT /system/secrets"]
    assert gateway.calls[2].json == gateway.calls[1].json


@pytest.mark.parametrize("words", [("create", "key"), ("update", "key"), ("create", "key", "--replace")])
def test_workers_that_have_not_the_value_yet_are_named(run, gateway, words):
    note = b"note: fn.openfaas-fn: these workers have not confirmed the last change: a\n"
    gateway.answer("POST /system/secrets", *((409, b"") if "--replace" in words else (202, note)))
    gateway.answer("PUT /system/secrets", 202, note)
    status, out, err = run("secret", *words, "--from-literal", "x")
    assert status == 0 and "these workers" not in out
    assert "note: key: fn.openfaas-fn: these workers have not confirmed the last change: a" in err


def test_a_secret_is_updated_listed_and_removed(run, gateway):
    listed = [{"name": "a", "namespace": "dev"}, {"name": "key", "namespace": "dev"}]
    gateway.answer("GET /system/secrets", 200, listed)
    updated = run("secret", "update", "key", "--from-literal", "x", "-n", "dev", "--json")
    assert updated[0] == 0 and json.loads(updated[1]) == {"name": "key", "namespace": "dev"}
    assert run("secret", "list", "-n", "dev")[1] == "Name  Namespace\na     dev\nkey   dev\n"
    assert json.loads(run("secret", "list", "--namespace", "dev", "--json")[1]) == listed
    assert run("secret", "remove", "key", "-n", "dev")[1] == "Removed secret key in namespace dev.\n"
    assert gateway.lines() == [
        "PUT /system/secrets",
        "GET /system/secrets?namespace=dev",
        "GET /system/secrets?namespace=dev",
        "DELETE /system/secrets",
    ]
    assert gateway.calls[0].json == {"name": "key", "namespace": "dev", "value": "x"}
    assert gateway.calls[3].json == {"name": "key", "namespace": "dev"}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["create", "../key", "--from-literal", "s3cret"], 1, "'../key'"),
        (["create", "key", "--from-literal", "s3cret", "--from-file", "key"], 2, "exclude each other"),
        (["create", "key", "--from-literal", ""], 1, "empty"),
        (["create", "key", "--from-literal", "  "], 1, "empty"),
        (["create", "key", "--from-file", "absent"], 2, "absent"),
        (["create", "key", "--from-file", "large"], 1, "at most 1048576"),
        (["create"], 2, "NAME"),
        (["remove", "Key"], 1, "'Key'"),
        (["bogus"], 2, "bogus"),
    ],
)
def test_an_invalid_secret_gets_a_message_without_a_request(run, gateway, words, status, said):
    Path("key").write_text("s3cret")
    Path("large").write_bytes(b"x" * (2**20 + 1))
    found, out, err = run("secret", *words)
    assert found == status and said in err and "s3cret" not in out + err
    assert gateway.calls == []


def test_a_value_of_a_mebibyte_fits(run, gateway):
    Path("large").write_bytes(b"x" * 2**20)
    assert run("secret", "create", "key", "--from-file", "large")[0] == 0
    assert len(gateway.calls[0].json["value"]) == 2**20


def test_updating_an_unknown_secret_shows_the_gateways_message(run, gateway):
    gateway.answer("PUT /system/secrets", 404, b"secret key does not exist in namespace openfaas-fn; create it first")
    status, _, err = run("secret", "update", "key", "--from-literal", "x")
    assert status == 1 and "create it first" in err


# -- namespace


def test_a_namespace_is_created_and_updated_as_faas_cli_does_it(run, gateway):
    notes = ("-l", "team=a", "--annotation", "b=c")
    assert run("namespace", "create", "dev", *notes)[:2] == (0, "Created namespace dev.\n")
    assert run("namespace", "update", "dev", *notes)[:2] == (0, "Updated namespace dev.\n")
    assert gateway.lines() == ["POST /system/namespace/", "PUT /system/namespace/dev"]
    expected = {
        "name": "dev",
        "labels": {"team": "a", "openfaas": "1"},
        "annotations": {"b": "c", "openfaas": "1"},
    }
    assert [call.json for call in gateway.calls] == [expected] * 2


def test_namespaces_are_listed_shown_and_removed(run, gateway):
    found = {"name": "dev", "labels": {"a": "b", "c": "d"}, "annotations": {"openfaas": "1"}}
    gateway.answer("GET /system/namespaces", 200, ["dev", "openfaas-fn"])
    gateway.answer("GET /system/namespace/dev", 200, found)
    assert run("namespace", "list")[1] == "Namespace\ndev\nopenfaas-fn\n"
    assert json.loads(run("namespace", "list", "--json")[1]) == ["dev", "openfaas-fn"]
    shown = run("namespace", "get", "dev")[1]
    assert re.fullmatch(r"Name: +dev\nLabels: +a=b\n +c=d\nAnnotations: +openfaas=1\n", shown)
    assert json.loads(run("namespace", "get", "dev", "--json")[1]) == found
    assert run("namespace", "remove", "dev")[:2] == (0, "Removed namespace dev.\n")
    assert gateway.lines()[-1] == "DELETE /system/namespace/dev"
    assert gateway.calls[-1].json == {"name": "dev", "labels": {"openfaas": "1"}}


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["create", "dev", "-l", "x"], 2, "KEY=VALUE"),
        (["get"], 2, "NAME"),
        (["get", "none"], 1, "namespace 'none' does not exist"),
        (["remove", "full"], 1, "still holds functions"),
    ],
)
def test_an_invalid_namespace_gets_a_message(run, gateway, words, status, said):
    gateway.answer("GET /system/namespace/none", 404, b"namespace 'none' does not exist")
    gateway.answer("DELETE /system/namespace/full", 400, b"namespace full still holds functions; remove them first")
    found, _, err = run("namespace", *words)
    assert found == status and said in err


def test_a_name_with_a_slash_stays_one_segment_of_the_path(run, gateway):
    run("namespace", "get", "../functions")
    assert gateway.lines() == ["GET /system/namespace/..%2Ffunctions"]


@pytest.mark.parametrize("verb", ["create", "get", "update", "remove"])
def test_a_namespace_without_a_name_is_refused_before_a_request(run, gateway, verb):
    status, _, err = run("namespace", verb, "")
    assert status == 1
    assert "namespace name '' is not valid: use 1 to 63 characters" in err
    assert gateway.lines() == []
