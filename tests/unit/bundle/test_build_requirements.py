import sys
import tarfile
import threading
from pathlib import Path

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.bundle.deps import Requirements, install, installer_command, read_requirements
from rescoldo.model.errors import BuildFailed


class Installer:
    """Stands in for pip: writes one module for each requirement, and counts its calls."""

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


def requirements(tmp_path: Path, text: str) -> Requirements:
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    return read_requirements(file, "hello/requirements.txt")


def test_comments_and_blank_lines_do_not_count(tmp_path):
    plain = requirements(tmp_path, "a==1\nb\n")
    assert requirements(tmp_path, "# two\na==1  # pinned\n\n  b\n").key == plain.key
    assert requirements(tmp_path, "a==2\nb\n").key != plain.key
    assert read_requirements(tmp_path / "none.txt", "x").lines == ()


@pytest.mark.parametrize("line", ["-r other.txt", "-e .", "./here", "../x", "/abs", "p @ file:///x", "-c c.txt"])
def test_what_points_to_local_files_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(BuildFailed, match=r"hello/requirements\.txt:2: .* points to a local file"):
        requirements(tmp_path, f"a\n{line}\n")


def test_an_index_option_is_kept(tmp_path):
    text = "--extra-index-url https://x/simple\na\n"
    assert requirements(tmp_path, text).lines == tuple(text.splitlines())


def test_requirements_are_installed_once_and_compiled(tmp_path):
    run, lines = Installer(), []
    wanted = Requirements(("alpha",))
    folder = install(wanted, tmp_path, run, lines.append)
    assert folder == tmp_path / wanted.key
    tag = sys.implementation.cache_tag
    assert {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()} == {
        "alpha.py",
        "broken.py",
        f"__pycache__/alpha.{tag}.pyc",
    }
    assert install(wanted, tmp_path, run, lines.append) == folder
    assert len(run.calls) == 1 and lines[-1] == "1 requirement(s), installed before"
    install(wanted, tmp_path, run, lines.append, fresh=True)
    assert len(run.calls) == 2


def test_an_installation_that_fails_shows_its_last_lines_and_leaves_nothing(tmp_path):
    run = Installer(1, tuple(f"line {i}" for i in range(30)))
    with pytest.raises(BuildFailed) as caught:
        install(Requirements(("a",)), tmp_path, run, lambda line: None)
    assert caught.value.message.endswith("line 28\n  line 29") and "line 14" not in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == [Requirements(("a",)).key + ".lock"]


def test_two_builds_at_once_install_once(tmp_path):
    run, folders, ready = Installer(), [], threading.Barrier(2)

    def one() -> None:
        ready.wait(10)
        folders.append(install(Requirements(("a",)), tmp_path, run, lambda line: None))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(run.calls) == 1 and folders[0] == folders[1]


def test_what_was_installed_is_in_the_bundle(tmp_path):
    folder = tmp_path / "hello"
    folder.mkdir()
    (folder / "handler.py").write_text("def handle(req): return req\n")
    (folder / "requirements.txt").write_text("alpha\n")
    request = BuildRequest("hello", "python3", "classic", folder, tmp_path)
    first = build(request, tmp_path / "build/hello", lambda line: None, Installer(), tmp_path / "cache")
    with tarfile.open(first.path) as tar:
        assert {"deps/alpha.py", f"deps/__pycache__/alpha.{sys.implementation.cache_tag}.pyc"} < set(tar.getnames())
    again = build(request, tmp_path / "build/hello", lambda line: None, Installer(), tmp_path / "cache2")
    assert first.digest == again.digest


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


@pytest.mark.parametrize("text", ["\n" * 1_000_000, "a" * (2**20 + 1), "a==1\n" * 10_001])
def test_a_file_of_more_bytes_or_lines_than_anybody_writes_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BuildFailed, match="at most 1,048,576 bytes and 10,000 lines"):
        requirements(tmp_path, text)
