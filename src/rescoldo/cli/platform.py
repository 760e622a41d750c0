"""The platform on this machine: its settings, its start and its stop.

Functions import the supervisor when they need it: `up` mostly finds a running platform and then only speaks HTTP.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rescoldo.cli.local import local_platform
from rescoldo.model.rundir import last_settings, run_dir_for
from rescoldo.model.settings import Settings, default_data_dir


def local_settings(data: Path | None, **changes: Any) -> Settings:
    """Return settings for a platform that keeps its files in `data` (the default data directory)."""
    place = (data or default_data_dir()).absolute()
    return Settings(data=str(place), run=_run(place, last_settings(place)), **changes)


def remembered_settings(data: Path | None, **changes: Any) -> Settings:
    """Return the last settings of the platform of `data`, with those `changes` that are not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    found = local_platform(data)
    if found is None:
        return local_settings(data, **given)
    return replace(found, run=_run(found.data_path, found), **given)


def _run(place: Path, last: Settings | None) -> str:
    """A running or crashed platform keeps its runtime directory; otherwise each start chooses again."""
    return last.run if last is not None and last.run_path.is_dir() else str(run_dir_for(place))


def start_background(settings: Settings) -> None:
    """Start the platform; return when /healthz answers. Raises RescoldoError with the end of its log."""
    from rescoldo.supervisor import start

    start.start_background(settings)


def run_foreground(settings: Settings) -> int:
    """Run the platform until it is stopped; return its exit status."""
    from rescoldo.supervisor import main

    return main.run(settings)


def abandoned(settings: Settings) -> bool:
    """Return whether the platform answers although its supervisor is gone."""
    from rescoldo.supervisor import start

    return start.abandoned(settings)


def stop(settings: Settings) -> bool:
    """Stop the platform; return False if none runs."""
    from rescoldo.supervisor import start

    return start.stop(settings)
