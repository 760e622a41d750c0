"""Users of a platform of their own, for tests of the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.live import SOURCE
from support.ports import free_ports


class Account:
    """Runs commands in a folder, against a platform at free ports of its own."""

    def __init__(self, folder: Path, data: Path, python: Sequence[str], environment: Mapping[str, str]) -> None:
        """`data` is the platform's data folder; `python` is the command that runs Python as this user."""
        self.folder = folder
        self.data = data
        self._python = python
        gateway, metrics = free_ports(2)
        self.gateway = f"http://127.0.0.1:{gateway}"
        self.metrics = f"127.0.0.1:{metrics}"
        self.environment = {**environment, "OPENFAAS_URL": self.gateway}

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `rescoldo WORDS`."""
        done = subprocess.run(
            [*self._python, "-m", "rescoldo.cli", *words],
            cwd=self.folder, env=self.environment, input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "internal error" not in done.stderr, done.stderr
        return done

    def ok(self, *words: str, stdin: str = "") -> str:
        """Run a command that must succeed; return its standard output."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, self._outcome(words, done)
        return done.stdout

    def fails(self, *words: str, status: int = 1) -> str:
        """Run a command that must fail; return its standard error."""
        done = self.run(*words)
        assert done.returncode == status, self._outcome(words, done)
        return done.stderr

    def _outcome(self, words: Sequence[str], done: subprocess.CompletedProcess[str]) -> str:
        return f"rescoldo {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}{self.log()}"

    def log(self) -> str:
        """The platform's log; empty before its first start."""
        file = self.data / "platform.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def up(self, *words: str) -> str:
        return self.ok("up", "--metrics-address", self.metrics, *words)


class User(Account):
    """Has an empty home directory, and runs commands in a project folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.project = home / "project"
        self.project.mkdir()
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TERM")}
        environment = {
            **kept,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": str(SOURCE),
        }
        super().__init__(self.project, home / "data" / "rescoldo", [sys.executable], environment)

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        done = super().run(*words, stdin=stdin)
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def write(self, path: str, text: str) -> None:
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
