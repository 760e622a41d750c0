"""Writes layers: tar.gz archives whose bytes depend on their entries alone.

Entries are sorted, their times are 0, their owner is 0:0. So the same content has the same digest on every machine with
the same zlib, and a registry that has a layer is not sent it again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from rescoldo.image.blobs import GZIP_LAYER, Blob, Layer

# of zlib. Level 6 takes three times as long for a tenth less
LEVEL = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of an image, a symbolic link if `link` is set, or a folder."""

    path: str  # without a leading slash: usr/local/bin/rescoldo
    content: Path | bytes = b""  # a file on this machine, or the content itself
    link: str = ""
    is_folder: bool = False
    mode: int = 0o644


def executable(path: Path) -> bool:
    """Return whether its owner may execute the file at `path`."""
    return bool(path.stat().st_mode & 0o100)


def file_entry(path: str, source: Path) -> Entry:
    """Return the entry of a file of this machine, which everybody may read, and execute if its owner may."""
    return Entry(path, source, mode=0o755 if executable(source) else 0o644)


def write_layer(entries: Iterable[Entry], path: Path) -> Layer:
    """Write the layer of `entries` to `path`. Of entries with the same path the last one counts. Raises OSError."""
    by_path = {entry.path: entry for entry in entries}
    with path.open("wb") as raw:
        packed = _Hashed(raw)
        with gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=packed, mtime=0) as compressed:
            plain = _Hashed(compressed)
            with tarfile.open(fileobj=plain, mode="w|", format=tarfile.PAX_FORMAT) as tar:
                for entry in _with_folders(by_path):
                    _add(tar, entry)
    return Layer(Blob(path, packed.digest, path.stat().st_size, GZIP_LAYER), plain.digest)


class Sink(Protocol):
    """What can be written to."""

    def write(self, data: bytes, /) -> int:
        """Take all of `data`."""
        ...


class _Hashed(io.RawIOBase):
    """Passes on what is written, and hashes it."""

    def __init__(self, target: Sink) -> None:
        self._target = target
        self._hash = hashlib.sha256()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._hash.update(data)
        self._target.write(data)
        return len(data)


def _with_folders(entries: dict[str, Entry]) -> Iterator[Entry]:
    """Yield the entries by path, each after the folders that it is in."""
    told: set[str] = set()
    for path in sorted(entries, key=lambda path: path.split("/")):
        for parent in [str(parent) for parent in reversed(PurePosixPath(path).parents)][1:]:
            if parent not in told:
                told.add(parent)
                yield Entry(parent, is_folder=True, mode=0o755)
        told.add(path)
        yield entries[path]


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.path)
    member.mode = entry.mode
    if entry.is_folder:
        member.type = tarfile.DIRTYPE
        tar.addfile(member)
    elif entry.link:
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(member)
    elif isinstance(entry.content, bytes):
        member.size = len(entry.content)
        tar.addfile(member, io.BytesIO(entry.content))
    else:
        with entry.content.open("rb") as file:
            member.size = os.fstat(file.fileno()).st_size
            tar.addfile(member, file)
