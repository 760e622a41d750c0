"""Finds this machine's platform for a command: the one of --data, else the platform started last if it still runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rescoldo.model.access import POOL_HEADER
from rescoldo.model.errors import InvalidInput
from rescoldo.model.rundir import last_settings
from rescoldo.model.settings import Settings, default_data_dir, user_data_dir
from rescoldo.supervisor import running


def local_platform(data: Path | None) -> Settings | None:
    """Return the last settings of the platform of `data`; None if it never ran.

    Without `data` and $RESCOLDO_DATA this is the platform of the default data directory. If that one does not run,
    it is the platform that this home started last with another data directory, if that one runs. The function
    guesses no other platform: `down` would stop it.
    """
    place = (data or default_data_dir()).absolute()
    last = last_settings(place)
    if data is not None or "RESCOLDO_DATA" in os.environ:
        return last
    own = {one.data_path: one for one in running.own_platforms()}
    return own.get(place) or own.get(_last_started()) or last


def note_start(data: Path | None) -> None:
    """Remember the data directory of a platform that starts, if it is not the default one."""
    chosen = data or (default_data_dir() if "RESCOLDO_DATA" in os.environ else None)
    with suppress(OSError):  # only a convenience: the platform starts without it
        if chosen is not None:
            _pointer().parent.mkdir(parents=True, exist_ok=True)
            _pointer().write_text(str(chosen.absolute()))


def _last_started() -> Path:
    try:
        return Path(_pointer().read_text())
    except (OSError, ValueError):
        return Path()


def _pointer() -> Path:
    return user_data_dir() / "rescoldo.last"


def local_url(data: Path | None) -> str:
    """Return the URL of that platform; empty if it never ran.

    Raises InvalidInput if `data` or $RESCOLDO_DATA names the platform and another one has its address by now.
    """
    found = local_platform(data)
    if found is None:
        return ""
    url = running.url_of(found)
    if data is not None or "RESCOLDO_DATA" in os.environ:
        check_owner(found, url)
    return url


def pool_proof(data: Path | None) -> dict[str, str]:
    """Return the header that proves to a worker of this machine that it may answer; empty if it is no worker's
    machine, or its pool's secret cannot be read: only inside of its pod it can."""
    found = local_platform(data)
    if found is None or found.pool_secrets is None:
        return {}
    with suppress(OSError, UnicodeDecodeError):
        if secrets := found.pool_secrets.read_text().split():
            return {POOL_HEADER: secrets[0]}
    return {}


def check_owner(meant: Settings, url: str) -> None:
    """Raise InvalidInput if the platform that listens at the address of the one that is `meant` is another one."""
    at = running.platform_at(meant.gateway)
    if at is not None and at.settings is not None and at.settings.data_path != meant.data_path:
        raise InvalidInput(
            f"{url} belongs to {at}, not to the platform of {meant.data}: use --data {at.settings.data}, or another "
            "--gateway"
        )


def data_folder(address: str, data: Path | None) -> Path:
    """Return the data directory of the platform at HOST:PORT if it is known; else the one that the user means."""
    if data is not None:
        return data.absolute()
    at = running.platform_at(address)
    if at is not None and at.settings is not None:
        return at.settings.data_path
    return default_data_dir()


def strangers() -> str:
    """Return text that lists other users' platforms, with the way to one's own; empty if there are none."""
    found = [str(one) for one in running.platforms() if one.uid != os.geteuid()]
    if not found:
        return ""
    return (
        f"; other users' platforms run here: {'; '.join(found)}; start your own at free ports: rescoldo serve --detach "
        "--port PORT --metrics-address 127.0.0.1:PORT"
    )


def others(place: Path) -> str:
    """Return text that lists the platforms with other data directories; empty if there are none."""
    found = [str(one) for one in running.platforms() if one.settings is None or one.settings.data_path != place]
    return f"; running here: {'; '.join(found)}" if found else ""
