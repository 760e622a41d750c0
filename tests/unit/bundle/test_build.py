import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.bytecode import compile_source
from rescoldo.model.errors import BuildFailed

HANDLER = "def handle(event, context):\n    return {'statusCode': 200}\n"


def no_run(argv, work, on_line):
    raise AssertionError("nothing to install")


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "handler.py").write_text(HANDLER)
    return tmp_path


def make(folder: Path, out: str = "build/hello", **changes):
    values = {
        "name": "hello",
        "lang": "python3-http",
        "style": "http",
        "handler": Path("hello"),
        "project": folder,
    }
    lines: list[str] = []
    request = BuildRequest(**(values | changes))
    return build(request, folder / out, lines.append, no_run, folder / "cache"), lines


def names(bundle) -> list[str]:
    with tarfile.open(bundle.path) as tar:
        return tar.getnames()


def refused(project: Path, **changes) -> str:
    with pytest.raises(BuildFailed) as caught:
        make(project, **changes)
    assert not (project / "build/hello/bundle.tar.gz").exists()
    return caught.value.message


def test_a_bundle_holds_the_manifest_the_handler_and_its_bytecode(project):
    bundle, lines = make(project)
    assert names(bundle) == [
        "manifest.json",
        "function",
        "function/__pycache__",
        f"function/__pycache__/handler.cpython-3{sys.version_info[1]}.pyc",
        "function/handler.py",
    ]
    with tarfile.open(bundle.path) as tar:
        manifest = json.loads(tar.extractfile("manifest.json").read())
    assert manifest == {
        "schema": 1,
        "kind": "python",
        "python": f"3.{sys.version_info[1]}",
        "arch": os.uname().machine,
        "lang": "python3-http",
        "style": "http",
        "handler": "function.handler",
    }
    assert bundle.size == bundle.path.stat().st_size
    assert lines == []


def test_the_same_input_gives_the_same_digest_whatever_its_times_and_modes(project):
    (project / "hello/tool.sh").write_text("#!/bin/sh\n")
    first, _ = make(project)
    os.utime(project / "hello/handler.py", (1, 1))
    (project / "hello/handler.py").chmod(0o600)
    (project / "hello/__pycache__").mkdir()
    (project / "hello/__pycache__/x.pyc").write_bytes(b"x")
    second, _ = make(project, out="build/other")
    assert first.digest == second.digest
    (project / "hello/tool.sh").chmod(0o755)
    assert make(project)[0].digest != first.digest


def test_the_archive_holds_no_trace_of_the_builder(project):
    bundle, _ = make(project)
    with tarfile.open(bundle.path) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            assert member.mode in (0o644, 0o755)
    assert bundle.path.read_bytes()[4:8] == b"\0\0\0\0"  # gzip's timestamp
    assert [item.name for item in bundle.path.parent.iterdir()] == ["bundle.tar.gz"]


@pytest.mark.slow
def test_bytecode_is_the_same_in_every_process():
    source = "import re\nX = {'a', 'b', 'c'}\ndef f(x: int = 3):\n"
    source += "    return x in {'aa', 'bb', 'cc'}, f'{x} a', 1.5, 2j, b'x', None\n"
    code = (
        "import sys; from rescoldo.bundle.bytecode import compile_source as c;"
        "keep = [sys.intern(w) for w in sys.argv[2:]];"
        "sys.stdout.write(c(sys.argv[1].encode(), 'm.py').hex())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, source, *words],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            check=True,
            capture_output=True,
        ).stdout
        for seed, words in (("1", []), ("2", ["aa"]), ("3", ["f", "aa", "a"]))
    }
    assert found == {compile_source(source.encode(), "m.py").hex().encode()}


def test_the_bytecode_in_a_bundle_is_what_python_imports(project):
    bundle, _ = make(project)
    target = project / "unpacked"
    with tarfile.open(bundle.path) as tar:
        tar.extractall(target, filter="data")
    # the result if the source were read
    (target / "function/handler.py").write_text("def handle(event, context):\n    return 'from source'\n")
    code = "from function.handler import handle as h; print(h(1, 2), h.__code__.co_filename)"
    done = subprocess.run([sys.executable, "-c", code], cwd=target, check=True, capture_output=True, text=True)
    assert done.stdout == f"{{'statusCode': 200}} {target}/function/handler.py\n"


def test_caches_version_control_and_virtual_environments_are_left_out(project):
    for name in (".git/config", "__pycache__/a.pyc", "env/pyvenv.cfg", "venv/x.py", "sub/__pycache__/b.pyc"):
        file = project / "hello" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
    (project / "hello/sub/kept.txt").write_text("x")
    bundle, _ = make(project)
    assert [n for n in names(bundle) if ".py" not in n] == [
        "manifest.json",
        "function",
        "function/__pycache__",
        "function/sub",
        "function/sub/kept.txt",
    ]


def test_a_project_that_is_its_own_handler_does_not_pack_its_build_folder(project):
    (project / "handler.py").write_text(HANDLER)
    make(project, handler=Path())
    assert not [n for n in names(make(project, handler=Path())[0]) if "build" in n]


def test_a_link_inside_the_folder_is_kept_relative(project):
    (project / "hello/data").mkdir()
    (project / "hello/data/a.txt").write_text("x")
    (project / "hello/link.txt").symlink_to(project / "hello/data/a.txt")
    with tarfile.open(make(project)[0].path) as tar:
        assert tar.getmember("function/link.txt").linkname == "data/a.txt"


def test_a_link_that_leads_out_of_the_folder_is_refused(project):
    (project / "hello/passwd").symlink_to("/etc/passwd")
    assert "hello/passwd: the link leads out of" in refused(project)


def test_a_dangling_link_is_refused(project):
    (project / "hello/gone").symlink_to("nothing")
    assert "hello/gone: the link leads nowhere" in refused(project)


def test_a_pipe_is_refused(project):
    os.mkfifo(project / "hello/pipe")
    assert "hello/pipe: neither a file nor a folder" in refused(project)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("def handle(:\n", "hello/handler.py:1: "),
        ("x = 1\nreturn 3\n", "hello/handler.py:2: 'return' outside function"),
        ("x = 1\n", "hello/handler.py:1: defines no `handle`; add `def handle(event, context)`"),
        ("def f():\n    def handle(e, c): pass\n", "defines no `handle`"),
        ("class A:\n    handle = 1\n", "defines no `handle`"),
        ("# coding: klingon\n", "hello/handler.py:1: "),
        ("x = '\0'\n", "hello/handler.py:1: "),
    ],
)
def test_a_handler_that_cannot_work_is_refused_with_its_line(project, source, expected):
    (project / "hello/handler.py").write_text(source)
    assert expected in refused(project)


@pytest.mark.parametrize(
    "source",
    [
        "async def handle(event, context): pass\n",
        "handle = lambda e, c: None\n",
        "from .other import handle\n",
        "from .other import main as handle\n",
        "from .other import *\n",
        "handle: object = print\n",
        "(a, handle) = 1, 2\n",
        "try:\n    import x\nexcept ImportError:\n    handle = 1\n",
        "if True:\n    pass\nelse:\n    def handle(e, c): pass\n",
    ],
)
def test_any_statement_that_may_bind_handle_at_the_top_level_is_accepted(project, source):
    (project / "hello/handler.py").write_text(source)
    assert make(project)[0].size


def test_a_missing_folder_and_a_missing_handler_are_named(project):
    assert refused(project, handler=Path("none")).startswith("none: the folder does not exist")
    file = Path("hello/handler.py")
    for style in ("http", "process"):
        assert refused(project, handler=file, style=style).startswith(f"{file}: not a folder;")
    (project / "hello/handler.py").unlink()
    assert "hello: it has no handler.py; add one with `def handle(req)`" in refused(project, style="classic")


def test_a_handler_folder_that_may_not_be_searched_is_named(project):
    # a name that is too long is refused like a folder's mode, but to root, too
    assert refused(project, handler=Path("a" * 300)).endswith("cannot be read: File name too long")


def test_a_module_that_does_not_compile_is_a_warning(project):
    (project / "hello/old.py").write_text("print 'x'\n")
    bundle, lines = make(project)
    assert lines[0].startswith("warning: ") and "hello/old.py:1: " in lines[0]
    assert "function/old.py" in names(bundle)


def test_copied_folders_keep_their_path_in_the_project(project):
    (project / "libs/common").mkdir(parents=True)
    (project / "libs/common/a.py").write_text("A = 1\n")
    assert "function/libs/common/a.py" in names(make(project, copy=(Path("libs/common"),))[0])


def test_a_copied_folder_outside_the_project_is_refused(project):
    (project / "inner").mkdir()
    with pytest.raises(BuildFailed, match="not a folder inside the project"):
        make(project, project=project / "inner", copy=(project / "hello",))
    assert "configuration.copy: absent does not exist" in refused(project, copy=(Path("absent"),))


def test_a_copy_that_would_replace_a_file_of_the_function_is_refused(project):
    for folder in ("hello/common", "common"):
        (project / folder).mkdir()
        (project / folder / "a.txt").write_text("x")
    assert "would replace" in refused(project, copy=(Path("common"),))


def test_an_older_bundle_survives_a_failed_build(project):
    old, _ = make(project)
    (project / "hello/handler.py").write_text("nonsense(")
    with pytest.raises(BuildFailed):
        make(project)
    assert gzip.GzipFile(fileobj=io.BytesIO(old.path.read_bytes())).read()
