"""Fetches templates with git into ./template, in faas-cli's layout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import Conflict, InvalidInput, RescoldoError

DEFAULT_REPOSITORY = "https://github.com/openfaas/templates.git"
CLONE_TIMEOUT = 180.0  # seconds
TAIL = 5  # lines of a failed git's output that a user sees


@dataclass(frozen=True, slots=True)
class Pulled:
    """The result of a pull, by template name."""

    written: tuple[str, ...]
    kept: tuple[str, ...]  # existed before, and did not change


def pull_templates(repository: str, project: Path, *, overwrite: bool = False, only: str = "") -> Pulled:
    """Write the templates of `repository` (a path or URL; `#BRANCH` may follow) to `project`/template.

    `only` names a single template. Existing templates stay unless `overwrite`. Raises InvalidInput if the repository
    has none, Conflict if one cannot be written, and RescoldoError with git's message if the clone fails.
    """
    with tempfile.TemporaryDirectory(prefix="rescoldo-template-") as work:
        clone = Path(work) / "clone"
        _clone(repository, clone)
        found = {file.parent.name: file.parent for file in sorted(clone.glob("template/*/template.yml"))}
        if not found:
            raise InvalidInput(f"{shown(repository)}: it has no template, no file template/NAME/template.yml")
        if only and only not in found:
            raise InvalidInput(f"{shown(repository)}: it has no template {only!r}, only {', '.join(found)}")
        wanted = {name: folder for name, folder in found.items() if only in ("", name)}
        for folder in wanted.values():
            _check_links(folder, repository)
        return _copy(wanted, project / "template", overwrite)


def _clone(repository: str, clone: Path) -> None:
    location, _, branch = repository.partition("#")
    if not location or branch.startswith("-"):
        raise InvalidInput(f"{shown(repository)!r} is not a repository; write a path or URL, with #BRANCH if needed")
    chosen = ["--branch", branch] if branch else []
    # after `--`, a location that begins with a dash is no option
    command = ["git", "clone", "--quiet", "--depth", "1", "--no-recurse-submodules", *chosen, "--", location]
    try:
        done = subprocess.run(
            [*command, str(clone)], env=_environment(os.environ), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=CLONE_TIMEOUT, check=False,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise RescoldoError("pulling templates needs git, which is not on PATH; install it") from error
    except subprocess.TimeoutExpired as error:
        raise RescoldoError(f"{shown(repository)}: git clone took longer than {CLONE_TIMEOUT:.0f} s") from error
    if done.returncode:
        said = "\n".join(done.stderr.strip().splitlines()[-TAIL:])
        raise RescoldoError(f"{shown(repository)}: git clone failed: {shown(said)}")


def shown(text: str) -> str:
    """Return `text` without the users and passwords in its URLs."""
    return re.sub(r"//[^/@\s]*@", "//…@", text)


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    # protocols such as ext:: run commands; a password prompt would wait for ever
    return {**own, "GIT_ALLOW_PROTOCOL": "file:git:http:https:ssh", "GIT_TERMINAL_PROMPT": "0"}


def _check_links(folder: Path, repository: str) -> None:
    root = folder.resolve()
    for path in folder.rglob("*"):
        if path.is_symlink() and not path.resolve().is_relative_to(root):
            link = path.relative_to(folder.parent)
            raise InvalidInput(f"{shown(repository)}: {link} is a link that leads out of its template")


def _copy(wanted: Mapping[str, Path], target: Path, overwrite: bool) -> Pulled:
    written, kept = [], []
    try:
        for name, folder in wanted.items():
            place = target / name
            if place.exists() and not overwrite:
                kept.append(name)
                continue
            partial = target / f".{name}.{os.getpid()}"
            shutil.copytree(folder, partial, symlinks=True)
            if place.exists():
                shutil.rmtree(place)
            partial.replace(place)
            written.append(name)
    except OSError as error:
        raise Conflict(f"{error.filename or target}: cannot be written: {error.strerror}") from error
    return Pulled(tuple(written), tuple(kept))
