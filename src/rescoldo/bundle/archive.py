"""Writes tar.gz archives whose bytes depend on their content alone: sorted, no times, no owners, two modes."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from rescoldo.bundle.tree import BundleFile


def write_archive(path: Path, entries: Iterable[BundleFile], texts: Mapping[str, bytes], *, level: int = 6) -> str:
    """Write `entries` and the generated files `texts` (name → content) to `path`, compressed at zlib's `level`.

    The archive appears whole or not at all. Returns its sha256 in hex.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            partial.open("wb") as raw,
            gzip.GzipFile(filename="", mode="wb", compresslevel=level, fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            _fill(tar, sorted(entries, key=lambda entry: entry.name), texts)
        with partial.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return digest


def read_text(path: Path, name: str) -> str:
    """Return the text of the archive's first member, which must be `name`. Raises OSError, TarError, KeyError."""
    with tarfile.open(path, "r:gz") as tar:
        member = tar.next()
        if member is None or member.name != name or (file := tar.extractfile(member)) is None:
            raise KeyError(name)
        return file.read().decode()


def _fill(tar: tarfile.TarFile, entries: Iterable[BundleFile], texts: Mapping[str, bytes]) -> None:
    folders: set[str] = set()

    def add(member: tarfile.TarInfo, content: io.BufferedIOBase | None) -> None:
        for parent in reversed(Path(member.name).parents[:-1]):
            if str(parent) not in folders:
                folders.add(str(parent))
                folder = tarfile.TarInfo(str(parent))
                folder.type, folder.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(folder)
        tar.addfile(member, content)

    # the manifest comes first, so that a reader of the manifest need not read the rest
    for name, data in sorted(texts.items(), key=lambda text: ("/" in text[0], text[0])):
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o644
        add(member, io.BytesIO(data))
    for entry in entries:
        member = tarfile.TarInfo(entry.name)
        if entry.link:
            member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
            add(member, None)
            continue
        with entry.file.open("rb") as file:
            member.size = os.fstat(file.fileno()).st_size
            member.mode = 0o755 if entry.executable else 0o644
            add(member, file)
