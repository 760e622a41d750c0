"""The limits of one function: requests, time, bytes, memory, files and log.

A platform has one `Limits` as the default (model/settings.py); a function's own settings override it. The table
"Limits" in docs/behaviour.md lists the effect of each limit, and the limits that apply to programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from rescoldo.model.errors import InvalidInput
from rescoldo.model.program import LEAST_MEMORY
from rescoldo.model.units import parse_cpu, parse_duration, parse_memory
from rescoldo.model.values import seconds, size, whole_number

OURS = "rescoldo.dev/"  # prefix of our annotations
FLAG = "--default-"  # prefix of the flags of `rescoldo serve` that set default limits

# limits that have both an annotation and a flag
LIMIT_KEYS = ("concurrency", "max-queue", "max-body", "max-response", "max-files", "log-rate")

UNLIMITED_CONCURRENCY = 10_000  # the connections that the edge accepts at once by default
LEAST_TIMEOUT, MAX_TIMEOUT = 0.01, 86_400.0  # seconds
MAX_BODY = 512 * 2**20  # bytes; an instance holds a body in memory
MAX_RESPONSE = 2**40  # bytes
MAX_QUEUE = 100_000  # requests
FEWEST_FILES = 64  # descriptors; an instance needs about 20 itself
MAX_FILES = 2**20  # the kernel's default bound (fs.nr_open)
LEAST_LOG = 2**10  # bytes a second
MAX_LOG = 16 * 2**20  # bytes a second; one node reads and writes the logs of all functions


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of a function, or a platform's defaults for its functions."""

    concurrency: int = 32  # requests at once in one instance
    max_queue: int = 1000  # requests that may wait for an instance; 0: none
    exec_timeout: float = 30.0  # seconds for one call; of-watchdog's default
    max_body: int = 6 * 2**20  # bytes of one request's body; Lambda's payload
    # bytes of one response, 0: any number. An eighth of the memory, since an instance holds text and its bytes together
    max_response: int = 64 * 2**20
    memory: int = 512 * 2**20  # bytes of one instance; 0: any number
    cpu: int = 0  # millicores of one instance; 0: all of the machine's
    max_files: int = 4096  # descriptors of one instance, besides one for each request at once
    log_rate: int = 256 * 2**10  # bytes a second kept of one instance's output
    max_inflight: int = 0  # of-watchdog's setting, if it decided the concurrency; 0: it did not


def limits_of(
    notes: Mapping[str, str], env: Mapping[str, str], most: Mapping[str, str], asked: Mapping[str, str],
    defaults: Limits,
) -> Limits:
    """Return the limits of a deployment from its annotations, environment, `limits` and `requests`, over `defaults`.

    Raises InvalidInput naming the key, its value and the allowed range.
    """
    inflight = whole_number(env, "max_inflight", -1, 0, UNLIMITED_CONCURRENCY)
    if notes.get(OURS + "concurrency", "").strip():  # our annotation overrides of-watchdog's variable
        inflight = -1
    if inflight >= 0:
        defaults = replace(defaults, concurrency=inflight or UNLIMITED_CONCURRENCY)
    return replace(
        _read(notes, OURS, defaults),
        exec_timeout=_exec_timeout(env, "exec_timeout", defaults),
        memory=_memory(most, asked, defaults.memory),
        cpu=parse_cpu(most["cpu"], "limits.cpu") if most.get("cpu") else defaults.cpu,
        max_inflight=max(0, inflight),
    )


def has_no_timeout(env: Mapping[str, str]) -> bool:
    """Return whether a function asks for calls without a timeout: they get MAX_TIMEOUT."""
    try:
        return bool(env.get("exec_timeout", "").strip()) and parse_duration(env["exec_timeout"], "exec_timeout") == 0
    except InvalidInput:
        return False  # the deployment is refused for it


def platform_limits(flags: Mapping[str, str]) -> Limits:
    """Return the default limits of functions, from the flags of `rescoldo serve` (`--default-memory` and so on) and
    their values. Raises InvalidInput."""
    defaults = Limits()
    memory = parse_memory(flags.get(FLAG + "memory") or str(defaults.memory), FLAG + "memory")
    check_memory(memory, LEAST_MEMORY, FLAG + "memory")
    return replace(
        _read(flags, FLAG, defaults),
        exec_timeout=_exec_timeout(flags, FLAG + "timeout", defaults),
        memory=memory,
        cpu=parse_cpu(flags.get(FLAG + "cpu") or "0", FLAG + "cpu"),
    )


def _exec_timeout(values: Mapping[str, str], key: str, defaults: Limits) -> float:
    """Return the timeout in seconds. In of-watchdog 0 means no limit: here it means MAX_TIMEOUT."""
    return seconds(values, key, defaults.exec_timeout, LEAST_TIMEOUT, MAX_TIMEOUT, most=True)


def _read(values: Mapping[str, str], prefix: str, defaults: Limits) -> Limits:
    """Read the limits of LIMIT_KEYS, whose names begin with `prefix`."""
    concurrency = whole_number(values, prefix + "concurrency", defaults.concurrency, 0, UNLIMITED_CONCURRENCY)
    return replace(
        defaults,
        concurrency=concurrency or UNLIMITED_CONCURRENCY,
        max_queue=whole_number(values, prefix + "max-queue", defaults.max_queue, 0, MAX_QUEUE),
        max_body=size(values, prefix + "max-body", defaults.max_body, 1, MAX_BODY),
        max_response=size(values, prefix + "max-response", defaults.max_response, 1, MAX_RESPONSE, none=True),
        max_files=whole_number(values, prefix + "max-files", defaults.max_files, FEWEST_FILES, MAX_FILES),
        log_rate=size(values, prefix + "log-rate", defaults.log_rate, LEAST_LOG, MAX_LOG),
    )


def check_requests(most: Mapping[str, str], asked: Mapping[str, str]) -> None:
    """Raise InvalidInput for a request above its limit, which no machine could meet."""
    for key, parse in (("memory", parse_memory), ("cpu", parse_cpu)):
        wanted, allowed = asked.get(key, ""), most.get(key, "")
        request, limit = parse(wanted or "0", f"requests.{key}"), parse(allowed or "0", f"limits.{key}")
        if limit and request > limit:
            raise InvalidInput(
                f"requests.{key} ({wanted}) is above limits.{key} ({allowed}); lower it or raise the limit"
            )


def too_little_memory(limit: int, least: int) -> bool:
    """Return whether a memory `limit` (bytes; 0: none) is below the `least` that an instance needs to start."""
    return 0 < limit < least


def check_memory(limit: int, least: int, key: str = "limits.memory") -> None:
    """Raise InvalidInput, naming `key`, for a limit below the `least` that an instance needs to start (bytes)."""
    if too_little_memory(limit, least):
        raise InvalidInput(
            f"{key}: {limit} bytes are too few for an instance to start; use {least // 2**20}Mi or more, plus what "
            "the function itself needs"
        )


def _memory(most: Mapping[str, str], asked: Mapping[str, str], default: int) -> int:
    """Return the memory limit in bytes. A given limit decides, and 0 means none; a request above the default raises
    the limit to it."""
    if most.get("memory"):
        return parse_memory(most["memory"], "limits.memory")
    return max(default, parse_memory(asked.get("memory") or "0", "requests.memory")) if default else 0
