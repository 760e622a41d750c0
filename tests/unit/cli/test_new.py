import json
import tarfile
from pathlib import Path

import pytest

from rescoldo.stack.file import read_stack
from rescoldo.stack.templates import BUILT_IN

OURS = sorted(folder.name for folder in BUILT_IN.iterdir())


def test_new_writes_a_handler_and_a_stack_file_that_builds(run):
    status, out, err = run("new", "hello", "--lang", "python3-http")
    assert (status, err) == (0, "") and "Wrote hello/ and stack.yaml." in out and "rescoldo up\n" in out
    assert Path("stack.yaml").read_text() == (
        "version: 1.0\nprovider:\n  name: openfaas\n  gateway: http://127.0.0.1:8080\nfunctions:\n"
        "  hello:\n    lang: python3-http\n    handler: ./hello\n    image: hello:latest\n"
    )
    built_in = BUILT_IN / "python3-http/function"
    assert sorted(p.name for p in Path("hello").iterdir()) == ["handler.py", "requirements.txt"]
    assert Path("hello/handler.py").read_text() == (built_in / "handler.py").read_text()
    assert json.loads(run("build", "--json")[1])["hello"]["size"] > 0


def test_a_second_function_is_added_and_comments_stay(run):
    text = (
        "# my project\nprovider: {name: openfaas}\nfunctions:\n    one: # first\n        lang: python3\n"
        "        handler: ./one\n        image: ${REPO:-me}/one\n        environment:\n            T: |\n"
        "                a\n                b\n    # the end\nconfiguration:\n    copy: []\n"
    )
    Path("stack.yml").write_text(text)
    assert run("new", "two", "--lang", "python3", "--prefix", "me/")[0] == 0
    head, tail = text.split("    # the end")
    entry = "    two:\n      lang: python3\n      handler: ./two\n      image: me/two:latest\n"
    assert Path("stack.yml").read_text() == head + entry + "    # the end" + tail
    assert [function.name for function in read_stack("stack.yml").functions] == ["one", "two"]


@pytest.mark.parametrize(
    "text",
    [
        "provider: {name: openfaas}\n",
        "provider: {name: openfaas}\nfunctions:\n",
        "provider: {name: openfaas}\nfunctions: {}  # none yet\n",
        "provider: {name: openfaas}\nfunctions:\n  a: {lang: l, handler: h}",
        "provider: {name: openfaas}\nfunctions:\n  a: {lang: l,\n    handler: h}\n\n\n",
        "functions:\n  a:\n    lang: l\n    handler: h\n    secrets:\n    - x\nprovider: {name: openfaas}\n",
        "provider: {name: openfaas}\nfunctions:\n  a: {lang: l, handler: h, environment: {X: '${B}'}}\n",
    ],
)
def test_a_function_is_added_whatever_the_files_layout(run, monkeypatch, text):
    monkeypatch.setenv("B", "one\n two")
    Path("stack.yaml").write_text(text)
    before = [f.name for f in read_stack("stack.yaml").functions]
    assert run("new", "b", "--lang", "python3")[0] == 0
    assert [f.name for f in read_stack("stack.yaml").functions] == [*before, "b"]


def test_a_file_whose_layout_allows_no_new_line_is_left_alone(run):
    text = "provider: {name: openfaas}\nfunctions: {a: {lang: l, handler: h}}\n"
    Path("stack.yaml").write_text(text)
    status, _, err = run("new", "b", "--lang", "python3")
    assert status == 1 and "write this below `functions:` yourself:\n  b:\n    lang: python3" in err
    assert Path("stack.yaml").read_text() == text and not Path("b").exists()


def test_nothing_is_overwritten(run):
    Path("hello").mkdir()
    assert run("new", "hello", "--lang", "python3")[2].startswith("Error: hello exists already")
    assert not Path("stack.yaml").exists()
    assert run("new", "a", "--lang", "python3")[0] == 0
    status, _, err = run("new", "a", "--lang", "python3", "--handler", "other")
    assert status == 1 and "already has a function 'a'" in err and not Path("other").exists()


@pytest.mark.parametrize(
    ("argv", "status", "expected"),
    [
        (["new"], 2, "rescoldo new NAME --lang LANG"),
        (["new", "x"], 2, "rescoldo new NAME --lang LANG"),
        (["new", "Bad_Name", "--lang", "python3"], 1, "function name 'Bad_Name' is not valid"),
        (["new", "x", "--lang", "rust"], 1, f"no template 'rust'; available: {', '.join(OURS)}"),
        (["new", "x", "--lang", "python3", "--append", "no.yaml"], 1, "no.yaml: cannot be read"),
    ],
)
def test_invalid_arguments_get_a_message_and_nothing_is_written(run, argv, status, expected):
    got, _, err = run(*argv)
    assert got == status and expected in err
    assert list(Path().iterdir()) == []


def test_templates_are_listed_with_their_origin(run):
    folder = Path("template/mine")
    folder.mkdir(parents=True)
    (folder / "template.yml").write_text("rescoldo: {style: http}\n")
    rows = [line.split(maxsplit=1) for line in run("template", "list")[1].splitlines()[1:]]
    assert [name for name, _ in rows] == sorted(["mine", *OURS])
    listed = {name: " ".join(rest.split()) for name, rest in rows}
    assert listed["mine"] == "http template/mine"
    assert listed["process"] == "process built in"
    assert listed["python3"] == "classic built in python3-debian, python3-flask, python3-flask-debian"
    assert listed["python3-http"] == "http built in python3-http-debian"
    found = json.loads(run("template", "list", "--json")[1])
    assert next(one for one in found if one["name"] == "mine") == {
        "name": "mine",
        "style": "http",
        "built_in": False,
        "aliases": [],
    }
    assert run("new", "--list")[1].splitlines() == sorted(["mine", *OURS])


def test_a_new_program_gets_command_upstream_url_and_mode_and_builds(run):
    status, out, err = run("new", "hello", "--lang", "process")
    assert (status, err) == (0, "") and "put your program into hello/" in out
    assert Path("stack.yaml").read_text().endswith(
        "  hello:\n    lang: process\n    handler: ./hello\n    image: hello:latest\n    fprocess: ./server\n"
        "    environment:\n      mode: http\n      upstream_url: http://127.0.0.1:8000\n"
    )
    built = json.loads(run("build", "--json")[1])["hello"]
    with tarfile.open(built["path"]) as tar:
        assert {member.name: member.mode for member in tar} == {
            "manifest.json": 0o644, "function": 0o755, "function/server": 0o755,
        }  # fmt: skip


def test_a_program_that_cannot_be_executed_is_refused_at_the_build(run):
    run("new", "hello", "--lang", "process")
    Path("hello/server").chmod(0o644)
    status, _, err = run("build")
    assert status == 1
    assert "stack.yaml:6: hello was not built: " in err
    assert "hello/server is not executable; run `chmod +x server`" in err
