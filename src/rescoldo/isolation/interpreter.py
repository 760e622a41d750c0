"""Which directories this Python needs, and how to start it with nothing of its surroundings."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import rescoldo

_PACKAGE = Path(rescoldo.__file__).parent
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def needed_directories() -> tuple[str, ...]:
    """Directories without which this interpreter and rescoldo cannot be imported: prefixes, site-packages
    and this package, as they are named and as they really are."""
    wanted = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, str(_PACKAGE)]
    wanted += [str(Path(sys.executable).resolve().parent)]
    wanted += _libraries()
    return unique_paths(wanted)


def unique_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Absolute names and real names of those that exist, each once."""
    both = (name for path in map(Path, paths) for name in (path.absolute(), path.resolve()))
    return tuple(dict.fromkeys(str(name) for name in both if name != Path("/") and name.exists()))


def python_command(module: str, *arguments: str) -> list[str]:
    """The command that runs `module`'s main(): isolated (-I), so neither the environment, the user's
    site-packages nor the current directory decide what is imported."""
    path = [str(_PACKAGE.parent), *_libraries()]
    code = (
        f"import sys; sys.path += [p for p in {path!r} if p not in sys.path]; "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    return [sys.executable, "-I", "-c", code, *arguments]


def _libraries() -> list[str]:
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
