"""Unpacks an uploaded tar.gz from an untrusted author.

Guarantees: unpacking writes nothing outside the target folder and no file through a symbolic link; it makes no link
that leads out of the folder, no device and no setuid bit; and its time, memory and disk space are bounded. This is
stricter than tarfile's `data` filter, which has no bounds and lets one member replace another.
"""

from __future__ import annotations

import gzip
import os
import platform
import posixpath
import tarfile
import zlib
from pathlib import Path
from typing import Any, BinaryIO

from rescoldo.bundle.manifest import DEPENDENCIES, LAYER, LAYERED, SCHEMA, python_here
from rescoldo.kinds.registry import KINDS
from rescoldo.model.errors import InvalidInput, TooLarge
from rescoldo.model.text import read_json

MAX_MEMBERS = 50_000
MAX_UNPACKED = 2**30  # bytes of all files; Lambda's limit is a quarter of it
MAX_PATH = 1024  # bytes of a member's name; with the root before it, still below PATH_MAX
MAX_COMPONENT = 255  # bytes; the limit of ext4, xfs and tmpfs
MAX_DEPTH = 64  # folders in folders
MAX_HEADER = 2**14  # bytes of one extended header: tarfile reads it whole, perhaps in quadratic time
MAX_MANIFEST = 2**16  # bytes
HEADERS = 4 * tarfile.BLOCKSIZE  # bytes a member may take besides its content, on average
CHUNK = 2**18  # bytes

FOLDER_MODE = 0o750
FILE_MODE = 0o640
PROGRAM_MODE = 0o750


def unpack(archive: BinaryIO, target: Path, *, max_unpacked: int = MAX_UNPACKED) -> None:
    """Unpack `archive` into the empty folder `target`, with modes for an owner and a group.

    The caller checks the manifest. Raises InvalidInput (damaged, unsafe), TooLarge (over `max_unpacked` bytes or
    MAX_MEMBERS), and OSError if the disk refuses; then the caller removes the files written so far.
    """
    _unpack(_Gunzip(archive, max_unpacked + MAX_MEMBERS * HEADERS), target, max_unpacked, "run `rescoldo build` again")


def unpack_tar(archive: BinaryIO, target: Path, *, max_unpacked: int = MAX_UNPACKED) -> None:
    """Unpack a tar archive without compression; otherwise as `unpack`."""
    _unpack(_Plain(archive, max_unpacked + MAX_MEMBERS * HEADERS), target, max_unpacked, "send it again")


def read_member(archive: BinaryIO, name: str, most: int) -> bytes | None:
    """Return the first `most` bytes of a file in a tar archive without compression, and write nothing; None if it is
    not there. Raises InvalidInput (damaged), TooLarge (MAX_MEMBERS)."""
    plain = _Plain(archive, MAX_UNPACKED)
    try:
        with tarfile.open(fileobj=plain, mode="r:") as tar:  # type: ignore[call-overload]
            for count, member in enumerate(iter(tar.next, None), start=1):
                tar.members = []
                if count > MAX_MEMBERS:
                    raise TooLarge(f"the upload has more than {MAX_MEMBERS} members")
                if member.name == name and member.isreg() and not member.issparse():
                    return plain.content(max(0, min(member.size, most)))
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:  # all seen from tarfile
        raise InvalidInput(f"the upload is not a {plain.what}: {error}; send it again") from error
    return None


def _unpack(plain: _Plain, target: Path, max_unpacked: int, remedy: str) -> None:
    try:
        with tarfile.open(fileobj=plain, mode="r:") as tar:  # type: ignore[call-overload]
            _Extraction(tar, plain, target, max_unpacked).run()
        plain.drain()
    except (tarfile.TarError, ValueError, ArithmeticError, RecursionError) as error:  # all seen from tarfile
        raise InvalidInput(f"the upload is not a {plain.what}: {error}; {remedy}") from error


class _Plain:
    """Reads a stream forwards only, and at most `limit` bytes of it."""

    what = "tar archive"  # expected format, for messages

    def __init__(self, stream: BinaryIO, limit: int) -> None:
        self._stream = stream
        self._limit = limit
        self._position = 0

    def read(self, size: int) -> bytes:
        """Read for tarfile: only headers, because `_Extraction` reads the contents itself."""
        if not 0 <= size <= MAX_HEADER:
            raise InvalidInput(f"the upload is not a {self.what}: it has a header of {size} bytes")
        return self.content(size)

    def content(self, size: int) -> bytes:
        """Return at most `size` bytes; b"" at the end."""
        data = self._read(size)
        self._position += len(data)
        if self._position > self._limit:
            raise TooLarge(f"the upload unpacks to more than {self._limit} bytes")
        return data

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        """Skip to `position`; tarfile calls this between members."""
        if position < self._position:
            raise InvalidInput(f"the upload is not a {self.what}: its members overlap")
        while self._position < position:
            if not self.content(min(CHUNK, position - self._position)):
                raise InvalidInput(f"the upload is not a {self.what}: it ends inside a member")

    def drain(self) -> None:
        """Read to the end, which checks the gzip checksum. Only padding may follow the last member."""
        while data := self.content(CHUNK):
            if data.count(0) != len(data):
                raise InvalidInput(f"the upload is not a {self.what}: there is data behind the archive's end")

    def _read(self, size: int) -> bytes:
        return self._stream.read(size)


class _Gunzip(_Plain):
    """Reads the unpacked bytes of a gzip stream."""

    what = "bundle"

    def __init__(self, packed: BinaryIO, limit: int) -> None:
        super().__init__(gzip.GzipFile(fileobj=packed, mode="rb"), limit)  # type: ignore[arg-type]

    def _read(self, size: int) -> bytes:
        try:
            return super()._read(size)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InvalidInput(f"the upload is not a whole gzip file: {error}; send it again") from error


class _Extraction:
    """Walks through an archive once, and remembers the folders, files and links it has made."""

    def __init__(self, tar: tarfile.TarFile, plain: _Plain, target: Path, max_unpacked: int) -> None:
        self._tar = tar
        self._plain = plain
        self._target = target
        self._room = max_unpacked  # bytes left
        self._max_unpacked = max_unpacked
        self._folders: set[str] = {""}
        self._files: set[str] = set()
        self._links: set[str] = set()

    def run(self) -> None:
        count = 0
        while member := self._tar.next():
            self._tar.members = []  # type: ignore[attr-defined]  # else it keeps every header in memory
            count += 1
            if count > MAX_MEMBERS:
                raise TooLarge(f"the upload has more than {MAX_MEMBERS} members")
            self._extract(member)
        for name in self._links:
            self._check_link(name)

    def _extract(self, member: tarfile.TarInfo) -> None:
        name = clean_name(member.name)
        if member.isdir():
            self._make_folders(name)
            return
        if not name or name in self._folders or name in self._files or name in self._links:
            raise InvalidInput(f"the upload is not safe: {member.name[:200]!r} is in it twice")
        self._make_folders(posixpath.dirname(name))
        if member.issym():
            self._make_link(name, member.linkname)
        elif member.islnk():
            self._make_hard_link(name, member.linkname)
        elif member.isreg() and not member.issparse():
            self._make_file(name, member)
        else:
            raise InvalidInput(
                f"the upload is not safe: {member.name[:200]!r} is neither a file nor a folder nor a link"
            )

    def _make_folders(self, name: str) -> None:
        """Make a folder and its parents. Only folders made here count as existing, so no link is ever followed."""
        if name in self._folders:
            return
        self._make_folders(posixpath.dirname(name))
        if name in self._files or name in self._links:
            raise InvalidInput(f"the upload is not safe: {name[:200]!r} is a folder and something else")
        path = self._target / name
        path.mkdir()
        path.chmod(FOLDER_MODE)  # the umask would change mkdir's mode
        self._folders.add(name)

    def _make_file(self, name: str, member: tarfile.TarInfo) -> None:
        left = member.size
        if left < 0:
            raise InvalidInput(f"the upload is not a {self._plain.what}: {name[:200]!r} has a negative size")
        self._room -= left
        if self._room < 0:
            raise TooLarge(f"the upload unpacks to more than {self._max_unpacked} bytes")
        path = self._target / name
        with path.open("xb") as file:  # x: O_EXCL, which follows no link either
            while left:
                data = self._plain.content(min(CHUNK, left))
                if not data:
                    raise InvalidInput(f"the upload is not a {self._plain.what}: it ends inside {name[:200]!r}")
                file.write(data)
                left -= len(data)
            os.fchmod(file.fileno(), PROGRAM_MODE if member.mode & 0o100 else FILE_MODE)
        self._files.add(name)

    def _make_hard_link(self, name: str, linked: str) -> None:
        source = clean_name(linked)
        if source not in self._files:
            raise InvalidInput(f"the upload is not safe: hard link {name[:200]!r} leads to no file before it")
        os.link(self._target / source, self._target / name, follow_symlinks=False)
        self._files.add(name)

    def _make_link(self, name: str, to: str) -> None:
        inside = posixpath.normpath(posixpath.join(posixpath.dirname(name), to))
        if not to or posixpath.isabs(to) or "\0" in to or inside == ".." or inside.startswith("../"):
            raise InvalidInput(f"the upload is not safe: link {name[:200]!r} leads out of the bundle")
        if len(os.fsencode(to)) > MAX_PATH:
            raise InvalidInput(f"the upload is not safe: the target of link {name[:200]!r} is too long")
        (self._target / name).symlink_to(to)
        self._links.add(name)

    def _check_link(self, name: str) -> None:
        """Follow a link through all others: two links, each harmless alone, may together lead out."""
        root = os.path.realpath(self._target)
        real = os.path.realpath(self._target / name)
        if real != root and not real.startswith(root + os.sep):
            raise InvalidInput(f"the upload is not safe: link {name[:200]!r} leads out of the bundle")


def clean_name(name: str) -> str:
    """Return a member's name without `./` and a trailing slash; "" is the bundle itself.

    Raise InvalidInput if the name is absolute, leads upwards or is too long.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise InvalidInput(f"the upload is not safe: {name[:200]!r} leads out of the bundle")
    sizes = [len(os.fsencode(part)) for part in parts]
    if len(parts) > MAX_DEPTH or sum(sizes) + len(parts) > MAX_PATH or max(sizes, default=0) > MAX_COMPONENT:
        raise InvalidInput(f"the upload is not safe: the name {name[:200]!r} is too long or too deep")
    return "/".join(parts)


def check_manifest(folder: Path) -> None:
    """Raise InvalidInput unless the bundle unpacked at `folder` can run here."""
    manifest = read_manifest(folder)
    kind = next((kind for name, kind in KINDS.items() if name == manifest.get("kind")), None)
    if manifest.get("schema") not in (SCHEMA, LAYERED) or kind is None:
        built = f"kind {manifest.get('kind')!r}, schema {manifest.get('schema')!r}"
        raise InvalidInput(
            f"the bundle has {built[:200]}; this rescoldo runs kinds {' and '.join(map(repr, KINDS))}, schemas "
            f"{SCHEMA} and {LAYERED}: build it with the version of rescoldo that runs here"
        )
    if not kind.needs_python and not manifest.get("layer"):
        if manifest.get("arch") != platform.machine():
            raise InvalidInput(
                f"the bundle was built for {str(manifest.get('arch'))[:80]}, and this machine is {platform.machine()}: "
                "run `rescoldo build` here"
            )
        return
    if kind.handler and not isinstance(manifest.get("handler"), str):
        raise InvalidInput("manifest.json names no handler; run `rescoldo build` again")
    _check_python(manifest, "bundle")


def check_layer(folder: Path) -> None:
    """Raise InvalidInput unless the layer unpacked at `folder` fits this Python and this machine."""
    manifest = read_manifest(folder)
    if manifest.get("schema") != SCHEMA or manifest.get("kind") != LAYER:
        raise InvalidInput("the upload is not a layer of requirements; make one with `rescoldo build`")
    if not (folder / DEPENDENCIES).is_dir() or (folder / DEPENDENCIES).is_symlink():
        raise InvalidInput(f"the layer has no folder {DEPENDENCIES}; run `rescoldo build --no-cache`")
    _check_python(manifest, "layer")


def _check_python(manifest: dict[str, Any], what: str) -> None:
    built = f"Python {manifest.get('python')} on {manifest.get('arch')}"
    here = f"Python {python_here()} on {platform.machine()}"
    if built != here:
        raise InvalidInput(
            f"the {what} was built for {built[:200]}, and this machine has {here}: run `rescoldo build` again here"
        )


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of the bundle unpacked at `folder`; raise InvalidInput if it is missing or not valid."""
    path = folder / "manifest.json"
    try:
        if path.is_symlink() or path.stat().st_size > MAX_MANIFEST:
            raise InvalidInput(f"manifest.json must be a file of at most {MAX_MANIFEST} bytes")
        manifest = read_json(path.read_bytes())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InvalidInput(
            "the upload holds no manifest.json, so it is not a bundle; make one with `rescoldo build`"
        ) from error
    except ValueError as error:
        raise InvalidInput(f"manifest.json is not JSON: {error}; run `rescoldo build` again") from error
    if not isinstance(manifest, dict):
        raise InvalidInput("manifest.json must hold an object; run `rescoldo build` again")
    return manifest
