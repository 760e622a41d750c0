"""The platform on this machine: its settings, its start and its end."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from rescoldo.model.rundir import last_settings, run_dir_for
from rescoldo.model.settings import Settings, default_data_dir


def local_settings(data: Path | None, **changes: Any) -> Settings:
    """Settings of the platform that keeps its files in `data` (the default data directory)."""
    place = (data or default_data_dir()).absolute()
    last = last_settings(place)
    # one that runs, or that a crash has left, is where it was; each new start may choose better
    run = last.run_path if last is not None and last.run_path.is_dir() else run_dir_for(place)
    return Settings(data=str(place), run=str(run), **changes)


def start_background(settings: Settings) -> None:
    """Start it and return when /healthz answers. Raises RescoldoError with the end of its log."""
    _supervisor("start").start_background(settings)


def run_foreground(settings: Settings) -> int:
    """Run it until it is told to stop; return its exit status."""
    return int(_supervisor("main").run(settings))


def abandoned(settings: Settings) -> bool:
    """Whether it answers, but nobody supervises it any more."""
    return bool(_supervisor("start").abandoned(settings))


def stop(settings: Settings) -> bool:
    """Stop it; False when none runs."""
    return bool(_supervisor("start").stop(settings))


def _supervisor(module: str) -> Any:
    # imported when it is needed: most verbs only speak HTTP
    return import_module(f"rescoldo.supervisor.{module}")
