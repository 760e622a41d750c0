"""Reading an archive of faas-cli, and the log of a build's process."""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from rescoldo.bundle.unpack import unpack_tar
from rescoldo.control.deploy.build_context import ARCHITECTURES, MAX_CONFIG, find_function, read_config
from rescoldo.control.deploy.building import MAX_LINE, MAX_LOG, Report, check_requirements
from rescoldo.model.errors import BuildFailed, InvalidInput, RescoldoError, TooLarge
from support.faas_builder import CLASSIC, CONFIG, HTTP, add, archive, shrinkwrapped


def unpacked(tmp_path: Path, data: bytes) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir()
    unpack_tar(io.BytesIO(data), tree)
    return tree


def context(tmp_path: Path, files: dict[str, str]) -> Path:
    return unpacked(tmp_path, archive(files)) / "context"


def config(tmp_path: Path, **fields: Any) -> Any:
    return read_config(unpacked(tmp_path, archive({"Dockerfile": ""}, **fields)))


@pytest.mark.parametrize(
    ("language", "code", "style"),
    [
        ("python3-http", HTTP, "http"),
        ("python3-http-debian", HTTP, "http"),
        ("python3", CLASSIC, "classic"),
        ("python3-debian", CLASSIC, "classic"),
        ("python3-flask", CLASSIC, "classic"),
        ("python3-flask-debian", CLASSIC, "classic"),
        # the handler tells the style of a user's own template
        ("acme-python", HTTP, "http"),
        ("acme-python", "async " + HTTP, "http"),
        ("acme-python", "import os\n" + CLASSIC, "classic"),
    ],
)
def test_the_language_or_the_handler_tells_the_style_of_a_python_template(
    tmp_path: Path, language: str, code: str, style: str
) -> None:
    folder = context(tmp_path, shrinkwrapped({"handler.py": code}, language))
    found = find_function(folder)
    assert (found.lang, found.style, found.handler) == (language, style, folder / "function")


def test_a_template_for_rescoldo_declares_its_style_and_folder(tmp_path: Path) -> None:
    text = "language: ours\nhandler_folder: app\nrescoldo: {kind: process}\n"
    folder = context(tmp_path, {"template.yml": text, "app/server": "#!/bin/sh\n"})
    found = find_function(folder)
    assert (found.lang, found.style, found.handler) == ("ours", "process", folder / "app")


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"Dockerfile": "FROM scratch\n"}, "a Dockerfile of its own"),
        ({"template.yml": "language: node22\n", "function/handler.js": ""}, "'node22'"),
        ({"template.yml": "language: python3-fastapi\n", "main.py": "", "function/handler.py": ""}, "python3-fastapi"),
        (shrinkwrapped({"handler.py": "from app import handle\n"}, "acme"), "define a known function"),
        (shrinkwrapped({"handler.py": HTTP}) | {"template.yml": "handler_folder: ../tree\n"}, "inside the template"),
        (shrinkwrapped({"handler.py": HTTP}) | {"template.yml": "language: [\n"}, "template.yml"),
        (shrinkwrapped({"handler.py": HTTP}, "a\x07\u202eb") | {"index.py": ""}, "template"),
    ],
)
def test_a_context_without_a_known_function_is_refused_with_the_reason(
    tmp_path: Path, files: dict[str, str], reason: str
) -> None:
    if "a\x07" in files.get("template.yml", ""):
        files = {name: text for name, text in files.items() if name != "index.py"}
    with pytest.raises((BuildFailed, InvalidInput), match=reason) as error:
        find_function(context(tmp_path, files))
    assert "\x07" not in error.value.message


def test_the_configuration_has_the_image_and_notes_on_settings_without_effect(tmp_path: Path) -> None:
    here = ARCHITECTURES.get(platform.machine(), platform.machine())
    plain = config(tmp_path, image="ghcr.io/acme/f:1", platforms=[f"linux/{here}"], skipPush=True, buildArgs=None)
    assert plain.image == "ghcr.io/acme/f:1" and plain.notes() == []
    (tmp_path / "other").mkdir()
    other = config(tmp_path / "other", buildArgs={"TOKEN": "s3cret"}, platforms=["linux/riscv64"])
    assert len(other.notes()) == 2 and "TOKEN" in str(other.notes()) and "s3cret" not in str(other.notes())


@pytest.mark.parametrize(
    "fields",
    [
        {"image": ""}, {"image": None}, {"image": ["a"]}, {"image": "a" * 1001}, {"image": "a\nb"},
        {"buildArgs": ["a"]}, {"buildArgs": {str(n): "" for n in range(1001)}}, {"buildArgs": {"a\x1b": ""}},
        {"platforms": {"a": "b"}}, {"platforms": [1]}, {"more": "x" * MAX_CONFIG},
    ],
)  # fmt: skip
def test_an_invalid_configuration_is_refused(tmp_path: Path, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        config(tmp_path, **fields)


def tar_of(*members: tuple[str, bytes | str]) -> bytes:
    """A tar archive: bytes make a file, text makes a link to that path."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, data in members:
            if isinstance(data, bytes):
                add(tar, name, data)
            else:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = tarfile.SYMTYPE, data
                tar.addfile(member)
    return file.getvalue()


GOOD = (CONFIG, json.dumps({"image": "a:1"}).encode())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tar_of(), CONFIG),
        (tar_of((CONFIG, b"{")), "not JSON"),
        (tar_of((CONFIG, b"[" * 60_000)), "not JSON"),
        (tar_of((CONFIG, b"[]")), "object"),
        (tar_of(("real", b"{}"), (CONFIG, "real")), "archive holds 'real'"),
        (tar_of(GOOD, GOOD), "twice"),
        (tar_of(GOOD, ("../out", b"")), "leads out"),
        (tar_of(GOOD, ("/etc/out", b"")), "leads out"),
        (tar_of(GOOD, ("context/link", "../../..")), "leads out"),
        (tar_of(GOOD, ("context/link", "/etc")), "leads out"),
        (tar_of(GOOD, ("elsewhere/file", b"")), "elsewhere"),
        (b"no archive at all" * 100, "not a tar archive"),
        (archive({"Dockerfile": "x" * 5000})[:2000], "not a tar archive"),
        (archive({"Dockerfile": ""}) + b"behind the end", "behind the archive's end"),
    ],
)
def test_a_hostile_archive_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(RescoldoError, match=reason):
        read_config(unpacked(tmp_path, data))
    assert sorted(item.name for item in tmp_path.iterdir()) == ["tree"]


def test_an_archive_has_a_maximum_size(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        unpack_tar(io.BytesIO(archive({"model": "x" * 2000})), tmp_path, max_unpacked=1000)


def test_a_log_is_bounded_escaped_and_without_paths_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda fd, data: sent.append(data) or len(data))
    report = Report("/data/builds/build-1/tree/context/")
    report.line("/data/builds/build-1/tree/context/function/handler.py:1: \x1b[31mbad\x1b[0m\x07")
    report.line("\U0001f600" * 100_000)
    assert json.loads(sent[0]) == {"log": "function/handler.py:1: bad\\x07"}
    assert len(sent[1]) < 60_000  # faas-cli stops at 64 KiB
    for _ in range(2 * MAX_LOG // MAX_LINE):
        report.line("x" * MAX_LINE)
    assert sum(len(json.loads(line)["log"]) for line in sent) <= MAX_LOG + MAX_LINE
    assert "not shown" in json.loads(sent[-1])["log"]


@pytest.mark.parametrize(
    "line",
    [
        "six==1.16.0", "uvicorn[standard]>=0.20,<1  # why", "# a note: https://example.org", "",
        'tomli ; python_version < "3.11"', "requests ~= 2.31 \\", "    --hash=sha256:0aF1 \\", "typing_extensions",
    ],
)  # fmt: skip
def test_requirements_with_wheels_are_accepted_without_root(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(line + "\n")
    check_requirements(tmp_path / "requirements.txt", wheels=True)


@pytest.mark.parametrize(
    "line",
    [
        "--no-binary :all:", "-e x", "six --no-binary=six", "six --config-settings=a=b", "--no-\\", "six \\\n  -\\",
        "x @ https://example.org/x.tar.gz", "https://example.org/x.tar.gz", "git+ssh://example.org/x", "file:x",
        "./x", "deps/../../../x", "..", ".", "/srv/x", "~/x", "C:\\x", "six --hash=sha256:xyz/../a",
    ],
)  # fmt: skip
def test_requirements_that_run_code_when_installed_are_refused_without_root(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"six\n{line}\n")
    with pytest.raises(BuildFailed, match=r"requirements.txt:[23]: .*that have wheels"):
        check_requirements(tmp_path / "requirements.txt", wheels=True)


@pytest.mark.parametrize("line", ["six @ https://${TOKEN}@example.org/six.whl", "--index-url https://x/$\\\n{TOKEN}"])
def test_requirements_cannot_use_the_platforms_environment(tmp_path: Path, line: str) -> None:
    (tmp_path / "requirements.txt").write_text(f"six\n{line}\n")
    with pytest.raises(BuildFailed, match=r"requirements.txt:2: .*no variables"):
        check_requirements(tmp_path / "requirements.txt", wheels=False)
