"""Finds the directories that this Python needs, starts it isolated from its surroundings, and makes the Python that
functions get."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import rescoldo

_PACKAGE = Path(rescoldo.__file__).parent
CLEAN_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def needed_directories() -> tuple[str, ...]:
    """Return the directories needed to import this interpreter and rescoldo: prefixes, site-packages and this package,
    by their given and their real names."""
    wanted = [sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, str(_PACKAGE)]
    wanted += [str(Path(sys.executable).resolve().parent)]
    wanted += _libraries()
    return unique_paths(wanted)


def platform_directories() -> tuple[str, ...]:
    """Return the directories with the platform's own packages: its virtual environment, or site-packages if it has
    none, and this package. No function needs them."""
    own = [sys.prefix] if sys.prefix != sys.base_prefix else _libraries()
    return unique_paths([*own, str(_PACKAGE)])


def function_directories(environment: Path) -> tuple[str, ...]:
    """Return the directories that a function's Python process needs to start: the installation of this Python, and
    `environment` from make_environment."""
    base = [sys.base_prefix, sys.base_exec_prefix, str(Path(sys.executable).resolve().parent)]
    return unique_paths([*base, str(environment)])


def unique_paths(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the absolute and the real names of the existing paths, each once."""
    both = (name for path in map(Path, paths) for name in (path.absolute(), path.resolve()))
    return tuple(dict.fromkeys(str(name) for name in both if name != Path("/") and name.exists()))


def make_environment(folder: Path) -> Path:
    """Make the functions' Python at `folder` unless it exists: a virtual environment (PEP 405) of the running Python,
    without packages. Return its interpreter. Raises OSError."""
    base = Path(getattr(sys, "_base_executable", "") or sys.executable).absolute()
    text = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {sys.version.split()[0]}\n"
    python, config = folder / "bin" / "python", folder / "pyvenv.cfg"
    names = ("python3", f"python{sys.version_info[0]}.{sys.version_info[1]}")
    if not config.is_file() or config.read_text() != text or not python.is_symlink() or python.readlink() != base:
        folder.parent.mkdir(parents=True, exist_ok=True)  # somebody may have removed it while the platform runs
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as away:
            made = Path(away) / "made"
            for place in (made, made / "bin"):
                place.mkdir()
                place.chmod(0o755)  # functions' users must pass here, whatever the umask
            (made / "bin" / "python").symlink_to(base)
            for name in names:
                (made / "bin" / name).symlink_to("python")
            (made / "pyvenv.cfg").write_text(text)
            (made / "pyvenv.cfg").chmod(0o644)
            if folder.exists():  # of another Python; processes started with it have read it already
                folder.rename(Path(away) / "previous")
            made.rename(folder)
    return python


def platform_path() -> list[str]:
    """Return the folders from which the platform's own packages are imported."""
    return [str(_PACKAGE.parent), *_libraries()]


def python_command(module: str, *arguments: str, python: Path | None = None) -> list[str]:
    """Return the command that runs `module`'s main(), isolated (-I): the environment, the user's site-packages and the
    current directory do not affect its imports. `python` is the interpreter; None means this one."""
    code = (
        f"import sys; sys.path += [p for p in {platform_path()!r} if p not in sys.path]; "
        f"from {module} import main; sys.exit(main(sys.argv[1:]))"
    )
    return [str(python or sys.executable), "-I", "-c", code, *arguments]


def _libraries() -> list[str]:
    return [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
