"""Runs pip or uv without root's rights, because they run packages' own code."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rescoldo.isolation.identity import kill_all_of
from rescoldo.isolation.level import level, obstacle
from rescoldo.isolation.run import unprivileged_command
from rescoldo.model.errors import BuildFailed
from rescoldo.model.ids import BUILD_UID

TIMEOUT = 1800.0  # seconds; enough to compile a package
LOCK = Path("/run/rescoldo/install.lock")
# The caller's variables that an installer may need; it gets no others, so that no secrets reach packages.
_KEPT_PREFIXES = ("PIP_", "UV_", "SSL_CERT_")
_KEPT = {"PATH", "LANG", "LC_ALL", "TZ", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
_KEPT |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CC", "CXX", "CFLAGS"}


def run_installer(argv: Sequence[str], work: Path, on_line: Callable[[str], None]) -> int:
    """Run `argv` in `work`; return its exit status. Implements deps.Run.

    Run as root, the installer becomes BUILD_UID and sees neither homes nor the platform. Its caches and temporary files
    live and die with `work`, so that one installation cannot leave anything for another. Raises BuildFailed if it takes
    longer than TIMEOUT, and for a root user without the right to make private mounts.
    """
    isolated = level() == "full"
    if not isolated and os.geteuid() == 0:
        raise BuildFailed(
            f"root cannot run an installer as another user here ({obstacle()}), and rescoldo never installs packages "
            "as root: build as another user"
        )
    try:
        if not isolated:
            return _run(argv, work, on_line, environment=os.environ, isolated=False)
        with _alone():
            for path in (work, *work.rglob("*")):
                os.chown(path, BUILD_UID, BUILD_UID)
            try:
                return _run(argv, work, on_line, environment=_environment(work), isolated=True)
            finally:
                kill_all_of(BUILD_UID)  # a process left running could change the installed packages
    except TimeoutError as error:
        raise BuildFailed(f"installing the requirements took longer than {TIMEOUT:g} seconds") from error


def _run(
    argv: Sequence[str],
    work: Path,
    on_line: Callable[[str], None],
    *,
    environment: Mapping[str, str],
    isolated: bool,
) -> int:
    uid = BUILD_UID if isolated else os.geteuid()
    program = Path(shutil.which(argv[0]) or argv[0])
    finder = environment.get("PIP_FIND_LINKS", "").split() + environment.get("UV_FIND_LINKS", "").split()
    return unprivileged_command(
        argv,
        uid=uid,
        gid=uid,
        visible_read=[program, *(Path(place) for place in finder if Path(place).is_dir())],
        visible_write=[work],
        env=environment,
        cwd=work,
        on_line=on_line,
        timeout=TIMEOUT,
    )


def _environment(work: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    for name in ("home", "tmp", "cache"):
        folder = work / name
        folder.mkdir()
        os.chown(folder, BUILD_UID, BUILD_UID)
    cache = str(work / "cache")
    ours = {"HOME": str(work / "home"), "TMPDIR": str(work / "tmp"), "XDG_CACHE_HOME": cache}
    return kept | ours | {"UV_CACHE_DIR": cache, "PIP_CACHE_DIR": cache, "UV_PYTHON_DOWNLOADS": "never"}


@contextmanager
def _alone() -> Iterator[None]:
    """Let one installation run at a time on this machine: they share a uid, and could tamper with each other."""
    LOCK.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
