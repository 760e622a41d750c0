"""Makes certificates for tests with openssl, and finds a HAProxy that serves them."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from rescoldo.edge import process
from rescoldo.model.errors import RescoldoError


@dataclass(frozen=True, slots=True)
class Pair:
    certificate: Path
    key: Path

    def text(self) -> str:
        return self.certificate.read_text() + self.key.read_text()

    def bundle(self, path: Path) -> Path:
        """Write both into one file as a renewal does: atomically, so that readers see the old file or the new one."""
        fresh = path.with_suffix(".fresh")
        fresh.touch(0o600)
        fresh.write_text(self.text())
        return fresh.replace(path)


class Authority:
    """A certificate authority of one test."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("openssl") is None:
            pytest.skip("certificates are made by `openssl`, which is not installed (scripts/need openssl)")
        self._folder = folder
        self.root = self._make("ca", "-x509", "-subj", "/CN=A CA of rescoldo's tests")

    def pair(self, name: str, subject: str) -> Pair:
        """Make a certificate for `subject`, for example DNS:fn.example or IP:127.0.0.1."""
        signer = ("-CA", str(self.root.certificate), "-CAkey", str(self.root.key))
        return self._make(
            name, "-x509", *signer, "-subj", f"/CN={name}", "-addext", f"subjectAltName={subject}",
            "-addext", "basicConstraints=critical,CA:FALSE",
        )  # fmt: skip

    def _make(self, name: str, *words: str) -> Pair:
        pair = Pair(self._folder / f"{name}.crt", self._folder / f"{name}.key")
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(pair.key))
        subprocess.run(
            ["openssl", "req", *key, "-days", "2", "-out", str(pair.certificate), *words],
            check=True, capture_output=True, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return pair


def put_haproxy_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a HAProxy with TLS on PATH: the machine's, or the wheel's as if it were installed if the machine's is
    missing or too old."""
    config = folder / "empty.cfg"
    config.write_text("global\n")
    try:
        process.check(process.binary(tls=True), config)
    except RescoldoError:
        bundled = process.binary()
        variables = " ".join(f"{name}={value}" for name, value in process.environment(bundled).items())
        stand_in = folder / "haproxy"
        stand_in.write_text(f'#!/bin/sh\nexec env {variables} {bundled} "$@"\n')
        stand_in.chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join([str(folder), os.environ["PATH"]]))
