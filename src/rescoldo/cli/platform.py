"""The platform on this machine: its settings, its start and its end.

The supervisor is imported where it is needed: `up` mostly finds a platform that runs, and speaks HTTP.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from rescoldo.cli.local import local_platform
from rescoldo.model.rundir import last_settings, run_dir_for
from rescoldo.model.settings import Settings, default_data_dir


def local_settings(data: Path | None, **changes: Any) -> Settings:
    """Settings of the platform that keeps its files in `data` (the default data directory)."""
    place = (data or default_data_dir()).absolute()
    return Settings(data=str(place), run=_run(place, last_settings(place)), **changes)


def remembered_settings(data: Path | None, **changes: Any) -> Settings:
    """What the platform of `data` was last started with, but for `changes` that are not None."""
    given = {name: value for name, value in changes.items() if value is not None}
    found = local_platform(data)
    if found is None:
        return local_settings(data, **given)
    return replace(found, run=_run(found.data_path, found), **given)


def _run(place: Path, last: Settings | None) -> str:
    """One that runs, or that a crash has left, is where it was; each new start may choose better."""
    return last.run if last is not None and last.run_path.is_dir() else str(run_dir_for(place))


def start_background(settings: Settings) -> None:
    """Start it and return when /healthz answers. Raises RescoldoError with the end of its log."""
    from rescoldo.supervisor import start

    start.start_background(settings)


def run_foreground(settings: Settings) -> int:
    """Run it until somebody stops it; return its exit status."""
    from rescoldo.supervisor import main

    return main.run(settings)


def abandoned(settings: Settings) -> bool:
    """Whether it answers, but nobody supervises it any more."""
    from rescoldo.supervisor import start

    return start.abandoned(settings)


def stop(settings: Settings) -> bool:
    """Stop it; False when none runs."""
    from rescoldo.supervisor import start

    return start.stop(settings)
