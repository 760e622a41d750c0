"""Reads a requirements.txt as pip does.

The format is pip's (pip.pypa.io/en/stable/reference/requirements-file-format): logical lines that a backslash
continues, comments, options, requirements (PEP 508, by `packaging`), URLs, and ${VARIABLE}s of the environment. Every
reference to a local file is refused, in any spelling: the file could change while requirements.txt does not, and the
layer would be stale.

Only the installer sees the credentials in URLs. Neither the key nor messages nor the bundle contain them.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rescoldo.bundle.manifest import python_here
from rescoldo.model.errors import BuildFailed

MAX_BYTES = 2**20
MAX_LINES = 10_000
HIDDEN = "****"  # stands for credentials in messages

_COMMENT = re.compile(r"(^|\s+)#.*$")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")  # upper case only, as in pip
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_USER = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<user>[^/@\s'\"]+)@")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".tbz", ".txz")
_EDITABLE = ("-e", "--editable")
_FILES = ("-r", "--requirement", "-c", "--constraint", "--pyproject")
_PLACES = ("-i", "--index-url", "--pypi-url", "--extra-index-url", "-f", "--find-links")
_LONG = {"-i": "--index-url", "--pypi-url": "--index-url", "-f": "--find-links"}
_FLAGS = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")
_VALUES = ("--no-binary", "--only-binary", "--trusted-host", "--use-feature")
_OF_ONE = ("--hash", "--config-settings", "--config-setting", "--global-option")  # options of a single requirement
_SHORT = ("-e", "-r", "-c", "-i", "-f")  # options whose value may follow without a space


@dataclass(frozen=True, slots=True)
class Line:
    """A logical line of the file."""

    number: int  # of its first line in the file
    text: str  # without comments, continued lines joined, with the values of variables: it may hold credentials
    meaning: str  # normal form: without credentials, and with one spelling of names and versions


@dataclass(frozen=True, slots=True)
class Requirements:
    """The content of a requirements.txt."""

    lines: tuple[Line, ...] = ()
    shown: str = "requirements.txt"  # the file's name in messages
    public: str = ""  # the file without its credentials; empty: it has none

    @property
    def count(self) -> int:
        """The number of requirements, without options."""
        return sum(not line.meaning.startswith("-") for line in self.lines)

    @property
    def key(self) -> str:
        """The sha256, in hex, of the requirements' meaning, the Python's version and the machine's architecture."""
        parts = [python_here(), sys.implementation.name, sys.platform, platform.machine()]
        options = [line.meaning for line in self.lines if line.meaning.startswith("-")]
        # the order of options counts, that of requirements does not
        wanted = sorted(line.meaning for line in self.lines if not line.meaning.startswith("-"))
        return hashlib.sha256("\n".join([*parts, *options, *wanted]).encode()).hexdigest()

    @property
    def text(self) -> str:
        """The installer's file. Each line keeps its number, so that the installer's messages name the right line."""
        rows = [""] * (self.lines[-1].number if self.lines else 0)
        for line in self.lines:
            rows[line.number - 1] = line.text
        return "\n".join(rows) + "\n"

    def hide(self, line: str) -> str:
        """Return a line of the installer's output without credentials."""
        for secret in self._credentials():
            line = line.replace(secret, HIDDEN)
        return line

    def _credentials(self) -> list[str]:
        """Return the texts to hide, longest first. A short password is hidden only together with its user: alone it
        may be part of any word."""
        users = {found["user"] for found in _USER.finditer(self.text) if _is_secret(found)}
        passwords = {user.partition(":")[2] for user in users}
        return sorted(users | {word for word in passwords if len(word) > 5}, key=len, reverse=True)


def read_requirements(file: Path, shown: str, environment: Mapping[str, str] = os.environ) -> Requirements:
    """Read a requirements.txt with the variables of `environment`; a missing file is an empty one.

    Raises BuildFailed, naming `shown` and the line, for an invalid requirement and for a reference to a local file.
    """
    if not file.is_file():
        return Requirements()
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise BuildFailed(f"{shown}: larger than {MAX_BYTES:,} bytes, the most a requirements.txt may have")
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data[: error.start].count(b"\n") + 1
        raise BuildFailed(f"{shown}:{number}: not UTF-8 text; save the file as UTF-8") from error
    except OSError as error:
        raise BuildFailed(f"{shown}: cannot be read: {error.strerror or error}") from error
    lines = []
    for number, line in _logical(text, shown):
        place = f"{shown}:{number}"
        lines.append(_line(number, _with_values(line, place, environment), place))
    public = without_credentials(text)
    return Requirements(tuple(lines), shown, public if public != text else "")


def without_credentials(text: str, instead: str = "") -> str:
    """Return `text` with `instead` in place of the user and password of each URL.

    An ssh user without a password stays, and so do variables.
    """
    return _USER.sub(lambda found: f"{found['scheme']}://{instead}" if _is_secret(found) else found[0], text)


def _with_values(line: str, place: str, environment: Mapping[str, str]) -> str:
    if missing := [name for name in _VARIABLE.findall(line) if name not in environment]:
        raise BuildFailed(f"{place}: the variable {missing[0]} is not set; export it where `rescoldo` runs")
    return _VARIABLE.sub(lambda found: environment[found[1]], line)


def _is_secret(found: re.Match[str]) -> bool:
    user = _VARIABLE.sub("", found["user"])
    if not user.strip(":"):
        return False  # variables alone
    return ":" in user or "ssh" not in found["scheme"]


def _logical(text: str, shown: str) -> Iterator[tuple[int, str]]:
    """Yield the logical lines without comments, each with the number of its first line."""
    parts: list[str] = []
    first = 0
    rows = text.splitlines()
    if len(rows) > MAX_LINES:
        raise BuildFailed(f"{shown}: more than {MAX_LINES:,} lines, the most a requirements.txt may have")
    for number, row in enumerate([*rows, ""], start=1):
        first = first if parts else number
        if row.endswith("\\") and not _COMMENT.match(row):  # a comment line ends a continuation and begins none
            parts.append(row.rstrip("\\"))
            continue
        parts.append(f" {row}" if row.startswith("#") else row)
        whole = _COMMENT.sub("", "".join(parts)).strip()
        parts = []
        if whole:
            yield first, whole


def _line(number: int, text: str, place: str) -> Line:
    if text.startswith("-"):
        return Line(number, text, _option(text, place))
    wanted, options = _split_options(text, place)
    meaning = _reference(wanted, place) or _requirement(wanted, place)
    return Line(number, text, " ".join([meaning, *options]))


def _option(text: str, place: str) -> str:
    """Return the normal form of a line of options; a line may hold several."""
    words = _words(text, place)
    meaning = []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name[:2] in _SHORT and not name.startswith("--") and len(word) > 2:
            name, equals, value = word[:2], "=", word[2:].removeprefix("=")
        if name in _FLAGS and not equals:
            meaning.append(name)
            continue
        if name not in (*_EDITABLE, *_FILES, *_PLACES, *_VALUES):
            known = ", ".join(option for option in (*_PLACES, *_FLAGS, *_VALUES) if option.startswith("--"))
            raise BuildFailed(f"{place}: {_shown(word)} is not supported in a requirements.txt; use {known}")
        if not equals:
            if not words:
                raise BuildFailed(f"{place}: {name} needs a value")
            value = words.pop(0)
        _check_option(name, value, place)
        meaning.append(f"{_LONG.get(name, name)}={without_credentials(value)}")
    return " ".join(meaning)


def _check_option(name: str, value: str, place: str) -> None:
    if name in _FILES:
        raise _local(f"{name} {value}", place)
    if name in _EDITABLE:
        if _is_remote(value):
            raise BuildFailed(
                f"{place}: {name} installs a working copy, which bundles do not support; write `NAME @ {_shown(value)}`"
            )
        raise _local(f"{name} {value}", place)
    if name in _PLACES and not _is_remote(value):
        raise _local(f"{name} {value}", place)


def _split_options(text: str, place: str) -> tuple[str, list[str]]:
    """Split a requirement from the options that follow it."""
    wanted, *rest = re.split(r"\s+(?=-)", text, maxsplit=1)
    options: list[str] = []
    words = _words(rest[0], place) if rest else []
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name not in _OF_ONE:
            raise BuildFailed(f"{place}: {_shown(word)} cannot follow a requirement; only {', '.join(_OF_ONE)} can")
        if not equals:
            value = words.pop(0) if words else ""
        options.append(f"{name}={value}")
    return wanted, sorted(options)


def _reference(wanted: str, place: str) -> str:
    """Return the normal form of a bare URL; empty if `wanted` is none. Raises BuildFailed for a local path."""
    if _SCHEME.match(wanted) and ("//" in wanted or wanted.lower().startswith("file:")):
        if not _is_remote(wanted):
            raise _local(wanted, place)
        return without_credentials(wanted)
    plain = wanted.split("[")[0].split(";")[0].strip()
    if "@" not in plain and ("/" in plain or "\\" in plain or plain.startswith((".", "~")) or _is_archive(plain)):
        raise _local(wanted, place)
    return ""


def _requirement(wanted: str, place: str) -> str:
    # 20 ms to import, and needed only if there is a requirement
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        found = Requirement(wanted)
    except InvalidRequirement as error:
        why = without_credentials(str(error).partition("\n")[0], HIDDEN + "@")
        raise BuildFailed(f"{place}: {_shown(wanted)} is not a requirement: {why}") from error
    if found.url is not None:
        if not _is_remote(found.url):
            raise _local(wanted, place)
        found.url = without_credentials(found.url)
    found.name = canonicalize_name(found.name)
    return str(found)


def _is_archive(name: str) -> bool:
    return name.lower().endswith(_ARCHIVES)


def _is_remote(place: str) -> bool:
    """Return whether a URL leads to another machine: `git+https://…` does, `git+file://…` and a path do not."""
    scheme, colon, _ = place.partition(":")
    last = scheme.lower().rpartition("+")[2]
    return bool(colon and _SCHEME.match(place)) and last != "file" and "//" in place


def _words(text: str, place: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise BuildFailed(f"{place}: {_shown(text)}: {error}") from error


def _shown(text: str) -> str:
    return repr(without_credentials(text, HIDDEN + "@")[:200])


def _local(what: str, place: str) -> BuildFailed:
    return BuildFailed(
        f"{place}: {_shown(what)} points to a local file; write the requirement itself here, and put local packages "
        "into the function's folder or `configuration.copy`"
    )
