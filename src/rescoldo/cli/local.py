"""Finds this machine's platform for a command: the one of --data, else the platform started last if it still runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

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
    """Return the URL of that platform; empty if it never ran."""
    found = local_platform(data)
    return running.url_of(found) if found is not None else ""


def data_folder(address: str, data: Path | None) -> Path:
    """Return the data directory of the platform at HOST:PORT if it is known; else the one that the user means."""
    if data is not None:
        return data.absolute()
    at = running.platform_at(address)
    if at is not None and at.settings is not None:
        return at.settings.data_path
    return default_data_dir()


def others(place: Path) -> str:
    """Return text that lists the platforms with other data directories; empty if there are none."""
    found = [str(one) for one in running.platforms() if one.settings is None or one.settings.data_path != place]
    return f"; running here: {'; '.join(found)}" if found else ""
