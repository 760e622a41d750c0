"""Makes one bundle from a faas-cli upload: `python -m rescoldo.control.deploy.building UPLOAD TREE OUT CACHE [POD]`.

This is a process of its own, because unpacking, compiling and packing would keep the controller from waking functions,
and because a process can be bounded and ended. It runs nothing of the upload except the code that packages run at
their installation, and that in the way of `run_installer`.

It unpacks the archive UPLOAD into TREE, writes a bundle into OUT and keeps installed requirements in CACHE. Its
standard output is one JSON object a line: {"log": TEXT}, {"image": NAME}, and at last {"built": PATH, "layer": PATH}
(the layer is empty without requirements) or {"failed": REASON}.

The word POD says that it runs in a pod for this build alone (link/builds.py): there packages may run their code, since
nothing is near that is not theirs.
"""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import sys
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from rescoldo.bundle.build import BuildRequest, BuiltBundle, build
from rescoldo.bundle.deps import ARCHIVE, Progress
from rescoldo.bundle.installer import run_installer
from rescoldo.bundle.unpack import unpack_tar
from rescoldo.control.deploy.build_context import CONTEXT, find_function, read_config
from rescoldo.isolation.level import level
from rescoldo.isolation.syscalls import die_with_parent
from rescoldo.model.errors import BuildFailed, RescoldoError
from rescoldo.model.text import one_line, uncoloured

MAX_LINE = 3000  # characters; faas-cli stops reading at a line of JSON of 64 KiB
MAX_LOG = 2**20  # characters of all lines
MAX_MEMORY = 2**30  # bytes of address space, except for installers: compiling hostile source can take any amount
MAX_FILE = 2**30  # bytes of each file written
MAX_REQUIREMENTS = 2**20  # bytes; bundle/deps.py reads as many
POD = "pod"  # the last argument, in a build's own pod
NICE = 10  # the processes that wake functions go first
# a word of a requirement (PEP 508: name, version, marker); no option, path, URL or variable, even on a continued line
_WORD = re.compile(r"[A-Za-z0-9(\[<>=!~,;'\"][A-Za-z0-9._\-\[\],<>=!~;'\"()*+]*")
_HASH = re.compile(r"--hash=[a-z0-9]+:[0-9a-fA-F]+")


def main() -> int:
    """Build UPLOAD; the exit status is 0 even if the build fails, since the last message says so."""
    upload, tree, out, cache = map(Path, sys.argv[1:5])
    wheels = level() != "full" and sys.argv[5:] != [POD]
    signal.signal(signal.SIGTERM, _end)
    die_with_parent(signal.SIGTERM)
    _limit()
    warnings.simplefilter("ignore")  # hostile source could fill the platform's log with warnings
    report = Report(f"{tree / CONTEXT}/", f"{tree}/")
    try:
        built = make_bundle(upload, tree, out, cache, report, wheels=wheels)
        report.send(built=str(built.path), layer=str(out / ARCHIVE) if built.layer is not None else "")
    except RescoldoError as error:
        report.send(failed=report.clean(error.message))
    except MemoryError:
        report.send(failed=f"the build needs more than the {MAX_MEMORY} bytes of memory allowed")
    return 0


class Report:
    """Reports to the controller in short, clean lines, and bounds their number."""

    def __init__(self, *hidden: str) -> None:
        """`hidden` are paths that mean nothing to the user; every message leaves them out."""
        self._hidden = hidden
        self._room = MAX_LOG

    def line(self, text: str) -> None:
        """Send a line of the build's log, until MAX_LOG characters are sent."""
        if self._room <= 0:
            return
        shown = self.clean(text)
        self._room -= len(shown) + 1
        self.send(log=shown if self._room > 0 else "(the rest of the build's log is not shown)")

    def clean(self, text: str) -> str:
        """Remove hidden paths and colours from a text, and shorten it to MAX_LINE characters."""
        for path in self._hidden:
            text = text.replace(path, "")
        text = uncoloured(text[: 4 * MAX_LINE])
        return text if len(text) <= MAX_LINE else text[:MAX_LINE] + " ..."

    def send(self, **message: str) -> None:
        """Write one message to standard output."""
        # not through sys.stdout: after a signal, its flush at exit would wait for a pipe that nobody reads
        data = json.dumps(message).encode() + b"\n"
        while data:
            data = data[os.write(1, data) :]


def make_bundle(
    upload: Path, tree: Path, out: Path, cache: Path, report: Report, *, wheels: bool
) -> BuiltBundle:
    """Build the archive `upload`, with `wheels` alone as requirements. Raises RescoldoError."""
    try:
        tree.mkdir()
        with upload.open("rb") as archive:
            unpack_tar(archive, tree)
        upload.unlink()
    except OSError as error:
        raise BuildFailed(f"the archive cannot be unpacked: {error.strerror or error}") from error
    config = read_config(tree)
    report.send(image=config.image)
    function = find_function(tree / CONTEXT)
    for note in config.notes():
        report.line(note)
    report.line(one_line(f"building {config.image} as {function.lang} ({function.style}), without a container"))
    check_requirements(function.handler / "requirements.txt", wheels=wheels)
    request = BuildRequest(
        name=config.image,
        lang=function.lang,
        style=function.style,
        handler=function.handler,
        project=tree / CONTEXT,
    )
    return build(request, out, report.line, partial(run_bounded, wheels=wheels), cache)


def run_bounded(argv: Sequence[str], work: Path, on_line: Progress, *, wheels: bool) -> int:
    """Run an installer without the memory limit, since it may have to compile. If the platform is not root, code of
    packages would run as the platform's user with nothing hidden, so the installer takes only `wheels`, which run
    none. Implements deps.Run, once `wheels` is given."""
    options = ["--only-binary", ":all:"] if wheels else []  # of both uv and pip
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    try:
        return run_installer([*argv, *options], work, on_line)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def check_requirements(file: Path, *, wheels: bool) -> None:
    """Raise BuildFailed for variables, which would take the platform's values. With `wheels`, raise it also for
    options and for places other than the index, which would get around the limits of `run_bounded`."""
    if not file.is_file():
        return
    with file.open("rb") as opened:
        text = opened.read(MAX_REQUIREMENTS).decode(errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        code = line.split(" #")[0].strip()
        if code.startswith("#"):
            continue
        where = f"function/requirements.txt:{number}: {one_line(code)[:200]!r}"
        if "$" in line:  # `$` alone, too: the next line could go on with {NAME}
            raise BuildFailed(f"{where}: builds for faas-cli substitute no variables: write the value itself")
        words = [word for word in code.removesuffix("\\").split() if not _HASH.fullmatch(word)]
        if wheels and not all(_WORD.fullmatch(word) for word in words):
            raise BuildFailed(
                f"{where} is not allowed in a build for faas-cli if the platform does not run as root: use names and "
                "versions of the package index that have wheels, build with `rescoldo up`, or run the platform as root"
            )


def _limit() -> None:
    os.nice(NICE)
    for kind, most in ((resource.RLIMIT_AS, MAX_MEMORY), (resource.RLIMIT_FSIZE, MAX_FILE), (resource.RLIMIT_CORE, 0)):
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # `write` fails instead
    Path("/proc/self/oom_score_adj").write_text("1000")  # the kernel kills this rather than the platform


def _end(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)  # passes every `finally`, so that children are ended, too


if __name__ == "__main__":
    sys.exit(main())
