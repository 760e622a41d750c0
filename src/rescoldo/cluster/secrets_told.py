"""Which version of each secret control has told of, in a file that outlives control: what others change while no
control runs is told by the next one.

A version is the object's, which changes with labels, too: such a change is told without need then, and the functions
that name the secret get new instances. Nothing of a value is in the file.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from rescoldo.durable import replace_text

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0  # between two writes; what a killed control has not written is told again


class ToldSecrets:
    """Remembers versions, by namespace and name. `run` writes them until it is cancelled."""

    def __init__(self, file: Path | None) -> None:
        """None: nothing outlives this control."""
        self._file = file
        self._versions = {} if file is None else _read(file)
        self._open: set[str] = set()
        self._changed = asyncio.Event()

    def begin(self, namespace: str, present: Mapping[str, int]) -> list[str]:
        """Compare with the versions of all secrets that a namespace has; return the names of those that have changed
        since they were told. One that is not remembered is new to everybody, and one that is gone is forgotten."""
        before = {key: version for key, version in self._versions.items() if key.startswith(f"{namespace}/")}
        for key in before:
            if key.removeprefix(f"{namespace}/") not in present:
                self._set(key, None)
        news = [name for name, version in present.items() if before.get(f"{namespace}/{name}", version) != version]
        for name in present.keys() - set(news):
            self._set(f"{namespace}/{name}", present[name])
        return news

    def open(self, namespace: str, name: str) -> None:
        """Note that a secret's present version is to be told."""
        self._open.add(f"{namespace}/{name}")

    def close(self, namespace: str, name: str, version: int | None) -> None:
        """Note that it was told; None: that the secret is gone."""
        self._open.discard(f"{namespace}/{name}")
        self._set(f"{namespace}/{name}", version)

    def skip(self, namespace: str, name: str, version: int | None) -> None:
        """Note that there is no need to tell a version, unless an earlier one is still to be told."""
        if f"{namespace}/{name}" not in self._open:
            self._set(f"{namespace}/{name}", version)

    def _set(self, key: str, version: int | None) -> None:
        if self._versions.get(key) == version:
            return
        if version is None:
            del self._versions[key]
        else:
            self._versions[key] = version
        self._changed.set()

    async def run(self) -> None:
        """Write what changes."""
        while self._file is not None:
            await self._changed.wait()
            self._changed.clear()
            try:
                replace_text(self._file, json.dumps(self._versions))
            except OSError as error:
                log.warning("%s cannot be written: %s", self._file, error.strerror)
            await asyncio.sleep(PAUSE_SECONDS)
        await asyncio.Event().wait()


def _read(file: Path) -> dict[str, int]:
    """What an earlier control has told; nothing if the file is missing, or no such file."""
    try:
        return {str(key): int(version) for key, version in json.loads(file.read_text()).items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        log.warning("%s cannot be read, so changes of secrets from before are not told: %s", file, error)
        return {}
