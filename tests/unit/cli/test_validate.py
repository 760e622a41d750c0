import json
from pathlib import Path

import pytest

HEAD = "provider: {name: openfaas}\nfunctions:\n"
GOOD = "def handle(event, context):\n    return 1\n"


def write(path: str, text: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text(text)


def test_a_valid_project_has_no_problems_and_nothing_is_built(run):
    write("a/handler.py", GOOD)
    write("stack.yaml", HEAD + "  a: {lang: python3-http, handler: ./a}\n")
    assert run("validate") == (0, "stack.yaml: 1 function, no problems.\n", "")
    assert sorted(path.name for path in Path().iterdir()) == ["a", "stack.yaml"]


def test_all_problems_are_reported_at_once_each_with_its_place(run):
    write("a/handler.py", "def handle(event, context)\n")
    write("b/handler.py", GOOD)
    write("b/requirements.txt", "requests\n\n-e ../mine\n")
    write(
        "stack.yaml",
        "version: 3\nprovider: {name: openfass, gateway: x}\nfunctions:\n"
        "  a:\n    lang: python3-http\n    handler: ./a\n    lables: {x: y}\n    limits: {memroy: 1Mi}\n"
        "    skip_build: perhaps\n"
        "  b:\n    lang: python3-http\n    handler: ./b\n    labels: {com.openfaas.scale.min: many}\n"
        "    environment_file: [none.yml]\n"
        "  c:\n    lang: cobol\n  D_d: {}\n  e: 5\n  f:\n    lang: python3\n    handler: ./nothing\n",
    )
    status, out, err = run("validate")
    assert (status, out) == (1, "")
    starts = [line.split(": ")[0] for line in err.splitlines()]
    expected = {
        "stack.yaml:1": "version",
        "stack.yaml:2": "openfaas",
        "stack.yaml:7": "labels",
        "stack.yaml:8": "memory",
        "stack.yaml:9": "true or false",
        "stack.yaml:14": "none.yml",
        "stack.yaml:13": "com.openfaas.scale.min",
        "stack.yaml:15": "handler is missing",
        "stack.yaml:17": "D_d",
        "stack.yaml:18": "expected keys and values",
        "stack.yaml:19": "folder does not exist",
        "a/handler.py:1": "expected",
        "b/requirements.txt:3": "local file",
    }
    assert set(starts) == set(expected), err
    for place, word in expected.items():
        assert any(line.startswith(f"{place}: ") and word in line for line in err.splitlines()), (place, err)
    found = json.loads(run("validate", "--json")[1])
    assert found["problems"] == err.splitlines() and found["functions"] == ["a", "b", "c", "f"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "stack.yaml:1: the file is empty"),
        ("a: [1\n", "stack.yaml:1: not valid YAML"),
        (HEAD, "stack.yaml:1: it has no functions"),
        ("functions: {}\n", "stack.yaml:1: provider is missing"),
        ("x: ${\n", "stack.yaml:1: '${' is not a supported substitution"),
        (HEAD + "  a: {lang: python3, handler: ./x, image: ~}\nconfiguration: {copy: 5}\n", "configuration.copy"),
    ],
)
def test_an_invalid_stack_file_is_one_problem(run, text, said):
    write("stack.yaml", text)
    status, _, err = run("validate")
    assert status == 1 and said in err


def test_an_unreadable_part_is_reported_once_without_consequential_problems(run):
    write("a/handler.py", GOOD)
    given = HEAD + "  a:\n    lang: python3-http\n    handler: ./a\n"
    for text, fault in (
        (given + "    labels: [x]\n", "stack.yaml:6: functions.a.labels: expected keys and values, found a list"),
        (given + "    lang: python3\n", "stack.yaml:6: functions.a.lang: is given twice, first in line 4; keep one"),
        ("just text\n", "stack.yaml:1: expected keys and values, found 'just text'"),
    ):
        write("stack.yaml", text)
        assert run("validate") == (1, "", f"{fault}\n")


def test_a_refused_value_is_reported_with_its_own_line(run):
    write("a/handler.py", GOOD)
    given = HEAD + "  a:\n    lang: python3-http\n    handler: ./a\n"
    for text, place, key in (
        ("    annotations:\n      a: b\n      rescoldo.dev/max-que: 5\n", 8, "rescoldo.dev/max-que: unknown"),
        ("    environment:\n      A: b\n      exec_timeout: 25h\n", 8, "exec_timeout: '25h'"),
        ("    limits:\n      cpu: 1\n      memory: much\n", 8, "limits.memory: 'much'"),
        ("    secrets: [UP]\n", 3, "secret name 'UP'"),
    ):
        write("stack.yaml", given + text)
        status, _, err = run("validate")
        expected = f"stack.yaml:{place}: a: {key}"
        assert status == 1 and err.startswith(expected) and err.count("\n") == 1, err


def test_a_program_without_upstream_url_is_a_problem(run):
    write("a/server", "#!/bin/sh\n")
    program = HEAD + "  a:\n    lang: process\n    handler: ./a\n    fprocess: sh server\n"
    write("stack.yaml", program)
    status, _, err = run("validate")
    assert status == 1 and err.startswith("stack.yaml:3: a: upstream_url is missing, and"), err
    write("stack.yaml", program + "    environment: {upstream_url: 'http://127.0.0.1:8000'}\n")
    assert run("validate")[0] == 0


def test_validate_without_a_stack_file_is_a_usage_error(run):
    assert run("validate")[0] == 2
