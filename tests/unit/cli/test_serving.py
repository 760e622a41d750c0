"""The flags of draining, and what `rescoldo serve` imports."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from rescoldo.cli.serving import Stopping
from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import Limits
from rescoldo.model.settings import Settings


def drains(drain: str, timeout: str | None = None) -> Settings:
    return Settings(data="/d", run="/r", limits=Limits(exec_timeout=30.0), **Stopping(drain, timeout).settings())


@pytest.mark.parametrize(
    ("drain", "timeout", "longest"), [("0", None, 0.0), ("3", None, 33.0), ("500ms", None, 30.5), ("3s", "1m", 60.0)]
)
def test_draining_takes_as_long_as_calls_may_unless_a_flag_says_otherwise(
    drain: str, timeout: str | None, longest: float
) -> None:
    assert drains(drain, timeout).longest_drain == longest


def test_a_limit_of_draining_needs_draining() -> None:
    with pytest.raises(click.UsageError, match="--drain-timeout needs --drain"):
        Stopping("0s", "10s").settings()


@pytest.mark.parametrize(("drain", "timeout"), [("-1s", None), ("nonsense", None), ("5s", "4s"), ("2d", None)])
def test_other_durations_are_refused(drain: str, timeout: str | None) -> None:
    with pytest.raises(InvalidInput, match="--drain"):
        Stopping(drain, timeout).settings()


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [("rescoldo.cli.verbs.serve", "httpx2"), ("rescoldo.supervisor.supervisor", "rescoldo.model.function")],
)
def test_the_start_of_a_platform_does_not_wait_for_imports_that_it_does_not_need(module: str, unneeded: str) -> None:
    code = f"import sys, {module}; sys.exit({unneeded!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
