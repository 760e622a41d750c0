"""Which platform of this machine a command means: that of --data, else the one that was started last and runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from rescoldo.model import running
from rescoldo.model.rundir import last_settings
from rescoldo.model.settings import Settings, default_data_dir, user_data_dir


def local_platform(data: Path | None) -> Settings | None:
    """What the platform of `data` was last started with; None where none ever was.

    Without `data` and $RESCOLDO_DATA it is that of the default data directory; where that one does not run, it is the
    one that was last started from this home with another, if that runs. No other is ever guessed: `down` would stop it.
    """
    place = (data or default_data_dir()).absolute()
    last = last_settings(place)
    if data is not None or "RESCOLDO_DATA" in os.environ:
        return last
    own = {one.data_path: one for one in running.own_platforms()}
    return own.get(place) or own.get(_last_started()) or last


def note_start(data: Path | None) -> None:
    """Remember that a platform is started with this data directory, where it is another than the default one."""
    chosen = data or (default_data_dir() if "RESCOLDO_DATA" in os.environ else None)
    with suppress(OSError):  # it is a convenience
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
    """Where that platform listens; empty where none ever was."""
    found = local_platform(data)
    return running.url_of(found) if found is not None else ""


def data_folder(address: str, data: Path | None) -> Path:
    """The data directory of the platform at HOST:PORT, as far as can be seen; else the one that is meant anyway."""
    if data is not None:
        return data.absolute()
    at = running.platform_at(address)
    if at is not None and at.settings is not None:
        return at.settings.data_path
    return default_data_dir()


def others(place: Path) -> str:
    """A sentence on the platforms that run with another data directory; empty where there is none."""
    found = [str(one) for one in running.platforms() if one.settings is None or one.settings.data_path != place]
    return f"; running here: {'; '.join(found)}" if found else ""
