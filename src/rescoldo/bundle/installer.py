"""Running pip or uv, which run packages' own code, without root's rights."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rescoldo.isolation.identity import kill_all_of, level
from rescoldo.isolation.run import unprivileged_command
from rescoldo.model.errors import BuildFailed
from rescoldo.model.settings import BUILD_UID

TIMEOUT = 1800.0  # seconds: a package may have to be compiled
LOCK = Path("/run/rescoldo/install.lock")
# What an installer may need of its caller's environment; nothing else, so no secrets reach packages.
_KEPT_PREFIXES = ("PIP_", "UV_", "SSL_CERT_")
_KEPT = {"PATH", "LANG", "LC_ALL", "TZ", "http_proxy", "https_proxy", "no_proxy", "all_proxy"}
_KEPT |= {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "REQUESTS_CA_BUNDLE", "CC", "CXX", "CFLAGS"}


def run_installer(argv: Sequence[str], work: Path, on_line: Callable[[str], None]) -> int:
    """Run `argv` in `work`; return its exit status. Implements deps.Run.

    As root it becomes BUILD_UID and sees neither homes nor the platform; its caches and temporary files
    live and die with `work`, so that one package's installation cannot leave anything for another's.
    Raises BuildFailed when it takes longer than TIMEOUT, and for a root that may not become another user.
    """
    isolated = level() == "full"
    if not isolated and os.geteuid() == 0:
        raise BuildFailed(
            "root may not create private mounts here, and rescoldo never installs packages as root: build as another "
            "user"
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
                kill_all_of(BUILD_UID)  # whatever an installation left running could change what it installed
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
    """One installation at a time on this machine: all share one uid, and could reach into each other."""
    LOCK.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with LOCK.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
