"""`rescoldo replay`: compares the cost of settings for a trace of calls, simulated or on a running platform."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import click

from rescoldo.cli.credentials import authorization
from rescoldo.cli.gateway import choose_gateway
from rescoldo.cli.options import Verb, Whole, folded, gateway_options, json_option
from rescoldo.cli.output import note, say_columns, say_json
from rescoldo.cli.trust import trusted
from rescoldo.model.errors import InvalidInput
from rescoldo.model.limits import UNLIMITED_CONCURRENCY, Limits
from rescoldo.model.scaling import DEFAULT_MAXIMUM, MAX_REPLICAS
from rescoldo.model.units import parse_duration
from rescoldo.replay.outcome import Outcome, Setting
from rescoldo.replay.picture import check_picture, draw
from rescoldo.replay.platform import Target
from rescoldo.replay.play import SPEED, play
from rescoldo.replay.report import HEAD, remarks, rows, summary, to_json
from rescoldo.replay.simulate import COLD_START, Progress, simulate
from rescoldo.replay.trace import SAMPLE, Trace, part, read_trace

WINDOWS = ("10s", "60s", "15m")  # rescoldo's default, Knative's, and a common default elsewhere
MAX_WINDOW = 7 * 86400.0  # seconds; a platform allows no more either
MAX_COLD_START = 3600.0  # seconds
MAX_SETTINGS = 50


@dataclass(frozen=True, slots=True)
class _SettingFlags:
    """The settings to compare."""

    windows: tuple[str, ...]
    concurrencies: tuple[int, ...]
    max_scale: int

    def settings(self, *, live: bool) -> list[Setting]:
        """Combine each window with each concurrency. Raises InvalidInput."""
        windows = self.windows or (WINDOWS[:1] if live else WINDOWS)
        seconds = [_seconds(window, "--window", 0.0, MAX_WINDOW) for window in windows]
        pairs = product(seconds, self.concurrencies or (Limits().concurrency,))
        settings = [Setting(window, concurrency, self.max_scale) for window, concurrency in pairs]
        if len(settings) > MAX_SETTINGS:
            raise InvalidInput(
                f"{len(settings)} combinations of settings, at most {MAX_SETTINGS} are allowed: give fewer --window or "
                "--concurrency"
            )
        return list(dict.fromkeys(settings))


_setting_options = folded(
    _SettingFlags,
    "compared",
    click.option(
        "--window", "windows", multiple=True, metavar="TIME",
        help=f"Idle window; may be given several times. [{', '.join(WINDOWS)}; live: {WINDOWS[0]}]",
    ),
    click.option(
        "--concurrency", "concurrencies", multiple=True, type=Whole(1, UNLIMITED_CONCURRENCY),
        help=f"Requests that one instance serves at once; may be given several times. [{Limits().concurrency}]",
    ),
    click.option("--max-scale", type=Whole(1, MAX_REPLICAS), default=DEFAULT_MAXIMUM, show_default=True,
                 help="Maximum instances of a function."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _PartFlags:
    """The part of the trace to play, and the seed that draws calls from its counts."""

    first: int | None
    minutes: int | None
    functions: int | None
    seed: int

    def of(self, trace: Trace) -> Trace:
        """Cut that part out of the trace. Raises InvalidInput."""
        return part(trace, first=self.first, minutes=self.minutes, functions=self.functions, seed=self.seed)


_part_options = folded(
    _PartFlags,
    "chosen",
    click.option("--from", "first", type=int, default=None, metavar="MINUTE", help="First minute. [the trace's]"),
    click.option("--minutes", type=int, default=None, help="Number of minutes. [all]"),
    click.option("--functions", type=int, default=None, help="Number of functions, chosen by --seed. [all]"),
    click.option("--seed", type=int, default=0, show_default=True, help="Random seed of the calls."),
)


@click.command("replay", cls=Verb)
@click.argument("trace", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--sample", is_flag=True, help="Use the trace that comes with rescoldo: 35 functions for an hour.")
@click.option("--live", is_flag=True, help="Play on the running platform instead of simulating.")
@_setting_options
@_part_options
@click.option("--speed", type=float, default=None, help=f"Live: divides time, durations and windows. [{SPEED:g}]")
@click.option(
    "--cold-start", default="", metavar="TIME", help=f"Simulation: duration of a wake. [{COLD_START * 1000:g}ms]"
)
@click.option(
    "--picture", type=click.Path(path_type=Path, dir_okay=False), default=None, metavar="FILE",
    help="Draw memory over time; FILE ends in .svg or .png.",
)  # fmt: skip
@gateway_options
@json_option
def replay_command(
    trace: Path | None,
    sample: bool,
    live: bool,
    compared: _SettingFlags,
    chosen: _PartFlags,
    speed: float | None,
    cold_start: str,
    picture: Path | None,
    gateway: str,
    tls_no_verify: bool,
    token: str,
    as_json: bool,
) -> None:
    """Play a trace of calls: compare memory, cold starts and delays of settings.

    TRACE is a folder with invocations.csv, durations.csv and memory.csv. Without --live, simulates the platform's
    policies, once for each setting, with the same calls. With --live, deploys the trace's functions in a namespace of
    their own, calls them and removes them.
    """
    if live and cold_start:
        raise click.UsageError("--cold-start excludes --live, which measures cold starts")
    if speed is not None and not live:
        raise click.UsageError("--speed needs --live; a simulation needs no clock")
    settings = compared.settings(live=live)
    if picture is not None:
        check_picture(picture)
    played, seed = chosen.of(_read(trace, sample)), chosen.seed
    note(summary(played))
    if live:
        target = _target(gateway, token, verify=not tls_no_verify)
        speed = SPEED if speed is None else speed
        outcomes = [play(played, one, target, speed=speed, seed=seed, say=note) for one in settings]
    else:
        seconds = _seconds(cold_start, "--cold-start", 0.0, MAX_COLD_START) if cold_start else COLD_START
        with _progress(len(played.functions)) as progress:
            outcomes = simulate(played, settings, cold_start=seconds, seed=seed, progress=progress)
    _tell(outcomes, speed, as_json)
    _draw(outcomes, picture)


def _target(gateway: str, token: str, *, verify: bool) -> Target:
    url = choose_gateway(gateway)
    return Target(url, authorization(url, token, None), trusted(url, verify=verify))


def _read(trace: Path | None, sample: bool) -> Trace:
    if (trace is None) != sample:
        raise click.UsageError("name one trace: the folder of its files, or --sample for the trace of rescoldo itself")
    return read_trace(SAMPLE if trace is None else trace)


def _seconds(text: str, flag: str, low: float, high: float) -> float:
    value = parse_duration(text, flag)
    if not low <= value <= high:
        raise InvalidInput(f"{flag} {text}: use {low:g}s to {high:g}s")
    return value


def _tell(outcomes: list[Outcome], speed: float | None, as_json: bool) -> None:
    if as_json:
        say_json(to_json(outcomes, speed))
        return
    say_columns(HEAD, rows(outcomes))
    for line in remarks(outcomes):
        note(line)


def _draw(outcomes: list[Outcome], picture: Path | None) -> None:
    if picture is not None:
        draw(outcomes, picture)
        note(f"Drawn: {picture}")


@contextmanager
def _progress(functions: int) -> Iterator[Progress | None]:
    if not sys.stderr.isatty():
        yield None
        return
    with click.progressbar(length=functions, label="Simulating", file=sys.stderr) as bar:
        yield lambda done, of: bar.update(1)
