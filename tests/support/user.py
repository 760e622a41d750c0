"""A new user with an empty home directory, for tests of the real command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from support.live import SOURCE
from support.ports import free_ports


class User:
    """Runs commands with an empty home directory and a project folder."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.project = home / "project"
        self.project.mkdir()
        gateway, metrics = free_ports(2)
        self.gateway = f"http://127.0.0.1:{gateway}"
        self.metrics = f"127.0.0.1:{metrics}"
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "LANG", "TERM")}
        self.environment = {
            **kept,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "data"),
            "XDG_CACHE_HOME": str(home / "cache"),
            "PYTHONPATH": str(SOURCE),
            "OPENFAAS_URL": self.gateway,
        }

    def run(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run `rescoldo WORDS`."""
        done = subprocess.run(
            [sys.executable, "-m", "rescoldo.cli", *words],
            cwd=self.project, env=self.environment, input=stdin, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def ok(self, *words: str, stdin: str = "") -> str:
        """Run a command that must succeed; return its standard output."""
        done = self.run(*words, stdin=stdin)
        assert done.returncode == 0, f"rescoldo {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *words: str, status: int = 1) -> str:
        """Run a command that must fail; return its standard error."""
        done = self.run(*words)
        assert done.returncode == status, f"rescoldo {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr

    def up(self, *words: str) -> str:
        return self.ok("up", "--metrics-address", self.metrics, *words)

    def write(self, path: str, text: str) -> None:
        file = self.project / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
