import fcntl
import hashlib
import json
import os
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.deps import Layer, installer_command, make_layer
from rescoldo.bundle.requirements import Line, Requirements, read_requirements
from rescoldo.model.errors import BuildFailed


class Installer:
    """Stands in for pip: writes one module for each requirement and records its calls."""

    def __init__(self, status: int = 0, say: tuple[str, ...] = ()) -> None:
        self.calls: list[list[str]] = []
        self.status, self.say = status, say
        self.meet: threading.Barrier | None = None

    def __call__(self, argv, work: Path, on_line) -> int:
        self.calls.append(list(argv))
        for line in self.say:
            on_line(line)
        if self.status == 0:
            for line in (work / "requirements.txt").read_text().split():
                (work / "deps" / f"{line}.py").write_text("X = 1\n")
            (work / "deps" / "broken.py").write_text("print 'two'\n")
        return self.status


def asked(*lines: str) -> Requirements:
    return Requirements(tuple(Line(number, text, text) for number, text in enumerate(lines, start=1)))


def members(layer: Layer) -> set[str]:
    with tarfile.open(layer.path) as tar:
        return {member.name for member in tar if not member.isdir()}


def test_requirements_are_installed_compiled_and_packed_once(tmp_path):
    run, lines = Installer(), []
    wanted = asked("alpha")
    layer = make_layer(wanted, tmp_path, run, lines.append)
    tag = sys.implementation.cache_tag
    packed = {"manifest.json", "deps/alpha.py", "deps/broken.py", f"deps/__pycache__/alpha.{tag}.pyc"}
    assert members(layer) == packed
    assert layer.digest == hashlib.sha256(layer.path.read_bytes()).hexdigest()
    assert layer.size == layer.path.stat().st_size
    written = layer.path.stat()
    assert make_layer(wanted, tmp_path, run, lines.append) == layer
    assert len(run.calls) == 1 and lines[-1] == "1 requirement(s) from the cache"
    assert (layer.path.stat().st_ino, layer.path.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert make_layer(wanted, tmp_path, run, lines.append, fresh=True) == layer
    assert len(run.calls) == 2


def test_an_incomplete_layer_is_built_again(tmp_path):
    run, wanted = Installer(), asked("alpha")
    layer = make_layer(wanted, tmp_path, run, lambda line: None)
    (layer.path.parent / "layer.json").write_text("{")
    assert make_layer(wanted, tmp_path, run, lambda line: None) == layer
    assert len(run.calls) == 2


def test_an_installed_script_uses_the_python_of_the_machine_where_it_runs(tmp_path):
    long = "#!/bin/sh\n'''exec' \"/a path/bin/python\" \"$0\" \"$@\"\n' '''\nimport sys\n"
    scripts = {
        "short": f"#!{sys.executable}\nimport sys\n",
        "long": long,
        "shell": "#!/bin/sh\nexec true\n",
        "program": "\x7fELF",
    }

    def run(argv, work, on_line):
        (work / "deps" / "bin").mkdir()
        for name, text in scripts.items():
            (work / "deps" / "bin" / name).write_text(text)
        return 0

    layer = make_layer(asked("a"), tmp_path, run, lambda line: None)
    with tarfile.open(layer.path) as tar:
        texts = {name: tar.extractfile(f"deps/bin/{name}").read().decode() for name in scripts}
    script = "#!/usr/bin/env python3\nimport sys\n"
    assert texts == {**scripts, "short": script, "long": script}


def test_cached_layers_are_bounded_in_bytes_and_the_least_recently_used_is_removed(tmp_path, monkeypatch):
    run, now = Installer(), time.time()
    old, used, busy = [make_layer(asked(name), tmp_path, run, print) for name in ("old", "used", "busy")]
    for ago, layer in ((9000, used), (8000, old), (7000, busy)):
        os.utime(layer.path.parent, (now - ago, now - ago))
    monkeypatch.setattr("rescoldo.bundle.deps.CACHE_BYTES", old.size * 2)
    assert make_layer(asked("used"), tmp_path, run, print) == used, "the layer is used again"
    with (tmp_path / f"{busy.path.parent.name}.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another build uses it
        new = make_layer(asked("new"), tmp_path, run, print)
    assert [layer.path.exists() for layer in (new, used, busy, old)] == [True, True, True, False]
    make_layer(asked("newer"), tmp_path, run, print)
    assert [layer.path.exists() for layer in (new, used, busy)] == [True, True, False], "two have just been used"
    assert make_layer(asked("old"), tmp_path, run, print).path.exists()


def test_requirements_that_install_nothing_here_make_an_empty_layer(tmp_path):
    layer = make_layer(asked("a; sys_platform == 'none'"), tmp_path, lambda *_: 0, lambda line: None)
    assert members(layer) == {"manifest.json", "deps/.empty"}


def test_a_failed_installation_shows_its_last_lines_and_leaves_nothing(tmp_path):
    run = Installer(1, tuple(f"line {i}" for i in range(30)))
    with pytest.raises(BuildFailed) as caught:
        make_layer(asked("a"), tmp_path, run, lambda line: None)
    assert caught.value.message.endswith("line 28\n  line 29") and "line 14" not in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == [asked("a").key + ".lock"]


def test_two_concurrent_builds_install_once(tmp_path):
    run, layers, ready = Installer(), [], threading.Barrier(2)

    def one() -> None:
        ready.wait(10)
        layers.append(make_layer(asked("a"), tmp_path, run, lambda line: None))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(run.calls) == 1 and layers[0] == layers[1]


def test_installed_requirements_make_a_layer_beside_the_bundle_that_names_it(tmp_path):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "handler.py").write_text("def handle(req): return req\n")
    (folder / "requirements.txt").write_text("alpha\n")
    request = BuildRequest("hello", "python3", "classic", folder, tmp_path)
    first = build(request, tmp_path / "build/hello", lambda line: None, Installer(), tmp_path / "cache")
    assert first.layer is not None and "deps/alpha.py" in members(first.layer)
    assert (tmp_path / "build/hello/layer.tar.gz").samefile(first.layer.path)
    assert first.manifest.layer == first.layer.digest and first.manifest.schema == 2
    with tarfile.open(first.path) as tar:
        assert not [name for name in tar.getnames() if name.startswith("deps")]
        assert json.load(tar.extractfile("manifest.json"))["layer"] == first.layer.digest
    again = build(request, tmp_path / "build/hello", lambda line: None, Installer(), tmp_path / "cache2")
    assert first.digest == again.digest and first.layer.digest == again.layer.digest
    (folder / "requirements.txt").unlink()
    without = build(request, tmp_path / "build/hello", lambda line: None, Installer(), tmp_path / "cache")
    assert without.layer is None and without.manifest.schema == 1
    assert not (tmp_path / "build/hello/layer.tar.gz").exists()


def test_a_change_of_code_packs_the_functions_own_files_alone(tmp_path):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "requirements.txt").write_text("alpha\n")
    request, run = BuildRequest("hello", "python3", "classic", folder, tmp_path), Installer()
    layers = set()
    for number in range(3):
        (folder / "handler.py").write_text(f"def handle(req): return {number}\n")
        built = build(request, tmp_path / "build/hello", lambda line: None, run, tmp_path / "cache")
        found = built.layer.path.stat()
        layers.add((built.layer.digest, found.st_ino, found.st_mtime_ns))
    assert len(layers) == 1 and len(run.calls) == 1


def test_without_uv_the_command_is_pip(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    argv = installer_command(tmp_path / "r.txt", tmp_path / "deps")
    assert argv[:4] == [str(tmp_path / "python"), "-m", "pip", "install"]
    (tmp_path / "uv").write_text("")
    (tmp_path / "uv").chmod(0o755)
    assert installer_command(tmp_path / "r.txt", tmp_path / "deps")[:3] == [
        str(tmp_path / "uv"),
        "pip",
        "install",
    ]


@pytest.mark.parametrize("place", ["__pycache__", "bin", "x.dist-info", "module.py"])
def test_the_build_writes_nothing_through_links_of_an_installation(tmp_path, place):
    """Code of packages writes the installed files as another user; root then post-processes them."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "tool").write_text(f"#!{sys.executable}\n")
    (outside / "direct_url.json").write_text('{"url": "https://me:secret@host/"}')
    before = {path.name: path.read_bytes() for path in outside.iterdir()}

    def run(argv, work, on_line):
        (work / "deps" / "os.py").write_text("X = 1\n")
        (work / "deps" / place).symlink_to(outside)
        return 0

    with pytest.raises(BuildFailed, match="a link out of their folder"):
        make_layer(asked("a"), tmp_path / "cache", run, lambda line: None)
    assert {path.name: path.read_bytes() for path in outside.iterdir()} == before


def test_the_installer_alone_sees_credentials(tmp_path):
    """Neither the output nor the archives contain them."""
    folder, lines = tmp_path / "hello", []
    folder.mkdir()
    (folder / "handler.py").write_text("def handle(req): return req\n")
    (folder / "requirements.txt").write_text("-i https://me:s3cr3t-token@host/simple\nalpha  # mine\n")

    def run(argv, work, on_line):
        assert "me:s3cr3t-token@" in (work / "requirements.txt").read_text()
        on_line("Looking in indexes: https://me:s3cr3t-token@host/simple, s3cr3t-token")
        (work / "deps" / "alpha-1.dist-info").mkdir()
        (work / "deps" / "alpha-1.dist-info" / "direct_url.json").write_text('{"url": "https://me:s3cr3t-token@h/a"}')
        return 0

    request = BuildRequest("hello", "python3", "classic", folder, tmp_path)
    built = build(request, tmp_path / "build/hello", lines.append, run, tmp_path / "cache")
    assert "Looking in indexes: https://****@host/simple, ****" in lines
    for archive in (built.path, built.layer.path):
        with tarfile.open(archive) as tar:
            for member in tar:
                assert not member.isfile() or b"s3cr3t" not in tar.extractfile(member).read(), member.name
    with tarfile.open(built.path) as tar:
        packed = tar.extractfile("function/requirements.txt").read().decode()
    assert packed == "-i https://host/simple\nalpha  # mine\n"
    for file in (tmp_path / "cache").rglob("*"):
        assert not file.is_file() or b"s3cr3t" not in file.read_bytes()


def test_line_numbers_in_the_installers_messages_are_those_of_the_users_file(tmp_path):
    file, lines = tmp_path / "requirements.txt", []
    file.write_text("# mine\n\nalpha==1 \\\n  --hash=sha256:aa\nbeta\n")

    def run(argv, work, on_line):
        rows = (work / "requirements.txt").read_text().splitlines()
        assert [row.split() for row in rows] == [[], [], ["alpha==1", "--hash=sha256:aa"], [], ["beta"]]
        on_line(f"ERROR: no beta (from -r {work / 'requirements.txt'} (line 5))")
        return 1

    with pytest.raises(BuildFailed, match=r"no beta \(from -r hello/requirements.txt \(line 5\)\)"):
        make_layer(read_requirements(file, "hello/requirements.txt"), tmp_path / "cache", run, lines.append)
