"""The storage that bundles and layers share: each uploaded archive becomes a folder named by its digest.

Such a folder is always whole. The storage unpacks it beside its place, syncs it and renames it into place; before it
removes a folder, it renames it away. A storage that is not durable syncs nothing, so its folders are whole until the
machine crashes.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from rescoldo.bundle.protocol import Received
from rescoldo.bundle.unpack import unpack
from rescoldo.durable import sync_folder
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError, StoreError, TooLarge

P = ParamSpec("P")
T = TypeVar("T")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".partial-"  # prefix of unfinished files and folders: a crash leaves some behind
BUFFER = 2**20  # bytes gathered before one hop to a thread


class ArchiveStorage:
    """Stores folders below `root` and uploads in `uploads`; with `own_gids` (as root) each folder has its own group.
    `durable`: a stored folder survives a crash of the machine."""

    what: str  # the archive's name in messages
    remedy: str  # what a user does about a missing one

    def __init__(self, root: Path, uploads: Path, own_gids: bool, durable: bool = True) -> None:
        self._root = root
        self._uploads = uploads
        self._own_gids = own_gids
        self._durable = durable
        # Unpacking competes with the event loop for the interpreter: only one runs at a time
        self._unpacking = asyncio.Lock()

    def _check(self, folder: Path) -> None:
        """Raise InvalidInput unless the storage may keep the archive unpacked at `folder`."""
        raise NotImplementedError

    def _complete(self, folder: Path) -> None:
        """Add to a checked folder whatever does not come from its archive. Raises InvalidInput."""

    def _keep(self, upload: Path, folder: Path) -> None:
        """Choose what stays of an archive that was unpacked to `folder`: here all of it."""

    async def prepare(self) -> None:
        """Make the folders and remove an earlier process's unfinished work. Call it once, at the start.

        Raises StoreError.
        """
        await asyncio.to_thread(self._prepare)

    async def receive(self, body: AsyncIterator[bytes], limit: int, digest: str | None) -> Received:
        """Write an upload to a temporary file.

        Raises TooLarge above `limit` bytes; InvalidInput if the upload is empty or does not match `digest`; StoreError
        if the disk refuses. A failed or cancelled upload leaves nothing behind.
        """
        if digest is not None:
            check_digest(digest)
        upload = await asyncio.to_thread(_Upload.create, self._uploads)
        try:
            received = await upload.fill(body, limit)
            if digest not in (None, received.digest):
                raise InvalidInput(
                    f"the upload has digest {received.digest}, expected {digest}: it was damaged in transit; send it "
                    "again"
                )
            return received
        except BaseException:
            upload.path.unlink(missing_ok=True)
            raise

    async def unpack(self, received: Received) -> None:
        """Unpack an upload and remove it; a folder of the same digest stays as it is.

        Raises InvalidInput (damaged, unsafe, not for this machine), TooLarge and StoreError.
        """
        await self._one_at_a_time(self._unpack, received)

    async def discard(self, received: Received) -> None:
        """Remove an upload that will not be unpacked."""
        await asyncio.to_thread(Path(received.place).unlink, missing_ok=True)

    def has(self, digest: str) -> bool:
        """Return whether this digest is stored here."""
        return _DIGEST.fullmatch(digest) is not None and (self._root / digest).is_dir()

    def path(self, digest: str) -> Path:
        """Return the folder of a digest; raise NotFound if it is not stored here."""
        if not self.has(digest):
            raise NotFound(f"no {self.what} with digest {digest[:80]} is stored here; {self.remedy}")
        return self._root / digest

    def digests(self) -> list[str]:
        """Return the stored digests, sorted. Raises StoreError."""
        try:
            return sorted(entry.name for entry in self._root.iterdir() if _DIGEST.fullmatch(entry.name))
        except OSError as error:
            raise disk_error(self._root, error) from error

    def gids(self) -> set[int]:
        """Return the groups of the stored folders. Raises StoreError."""
        found = set()
        for digest in self.digests():
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                found.add(os.stat(self._root / digest).st_gid)  # noqa: PTH116 - 1,000 of them at each deployment
        return found

    async def remove(self, digest: str) -> None:
        """Remove a digest's folder; an unknown digest is no error. Raises StoreError."""
        if self.has(digest):
            await asyncio.to_thread(self._remove, self._root / digest)

    async def _one_at_a_time(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run `work` in a thread; only one such thread runs at a time."""
        async with self._unpacking:
            # shielded, because a thread cannot be cancelled and the lock must be held until it ends
            running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                if not running.cancelled():
                    running.exception()  # fetch it, so that asyncio does not warn about it
                raise

    # -- everything below runs in a thread

    def _prepare(self) -> None:
        try:
            self._make_folders()
            for left in [*self._uploads.glob(_PARTIAL + "*"), *self._root.glob(_PARTIAL + "*")]:
                _remove_tree(left) if left.is_dir() else left.unlink()
        except OSError as error:
            raise disk_error(self._root, error) from error

    def _make_folders(self) -> None:
        self._uploads.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mode 0711: functions' own users must reach their folder, but may not list the others
        self._root.chmod(0o711 if self._own_gids else 0o700)

    def _unpack(self, received: Received) -> None:
        final, upload = self._root / received.digest, Path(received.place)
        try:
            if not final.is_dir():
                self._make_folders()  # a person may have removed them
                self._unpack_beside(upload, final)
        except OSError as error:
            raise disk_error(self._root, error) from error
        finally:
            upload.unlink(missing_ok=True)

    def _unpack_beside(self, upload: Path, final: Path) -> None:
        folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._root))
        try:
            with upload.open("rb") as archive:
                unpack(archive, folder)
            self._check(folder)
            self._complete(folder)
            self._keep(upload, folder)
            if self._own_gids:
                folder.chmod(0o750)
            else:
                _withdraw_group(folder)
            if self._durable:
                _sync_file_system(folder)
            folder.rename(final)
            if self._durable:
                sync_folder(self._root)
        except BaseException:
            _remove_tree(folder)
            raise

    def _remove(self, folder: Path) -> None:
        try:
            away = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._root))
            with contextlib.suppress(FileNotFoundError):  # another removal of it was faster
                folder.rename(away)  # replaces the empty folder just made, whose name no other process has
            _remove_tree(away)
        except OSError as error:
            raise disk_error(self._root, error) from error


class _Upload:
    """Writes an upload to a temporary file and hashes it, in threads, one buffer at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hash = hashlib.sha256()
        self._size = 0

    @classmethod
    def create(cls, folder: Path) -> _Upload:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            fd, name = tempfile.mkstemp(prefix=_PARTIAL, dir=folder)
        except OSError as error:
            raise disk_error(folder, error) from error
        os.close(fd)
        return cls(Path(name))

    async def fill(self, body: AsyncIterator[bytes], limit: int) -> Received:
        buffer = bytearray()
        async for chunk in body:
            self._size += len(chunk)
            if self._size > limit:
                raise TooLarge(f"the upload is larger than the {limit} bytes allowed")
            buffer += chunk
            if len(buffer) >= BUFFER:
                await asyncio.to_thread(self._write, bytes(buffer))
                buffer.clear()
        if not self._size:
            raise InvalidInput("the upload is empty: send a tar.gz as the body")
        await asyncio.to_thread(self._write, bytes(buffer))
        return Received(self._hash.hexdigest(), self._size, str(self.path))

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        try:
            # Open it each time: a thread left by a cancelled upload must not write to a closed descriptor that
            # means another file by now. Never create it: the upload may have been removed meanwhile.
            with open(os.open(self.path, os.O_WRONLY | os.O_APPEND), "wb") as file:  # noqa: PTH123
                file.write(data)
        except OSError as error:
            raise disk_error(self.path, error) from error


def check_digest(digest: str) -> str:
    """Return `digest`; raise InvalidInput unless it is a sha256 in hex."""
    if not _DIGEST.fullmatch(digest):
        raise InvalidInput(f"digest {digest[:80]!r} is not valid: use the 64 hex digits of a sha256")
    return digest


def own(folder: Path, gid: int) -> None:
    """Give everything in `folder` to group `gid`. Raises StoreError."""
    try:
        if folder.stat().st_gid == gid:
            return
        for parent, folders, files in os.walk(folder):
            for name in [*folders, *files]:
                os.chown(os.path.join(parent, name), 0, gid, follow_symlinks=False)  # noqa: PTH118
        os.chown(folder, 0, gid)  # last: after a crash before it, the next call does everything again
    except OSError as error:
        raise disk_error(folder, error) from error


def _withdraw_group(folder: Path) -> None:
    """Let only the owner read `folder` (0700 and 0600), since without root its group is not our own."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o700)  # noqa: PTH101
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # the next start removes the rest


def _sync_file_system(folder: Path) -> None:
    """Sync every file below `folder` with one syncfs: an fsync for each takes seconds for thousands of files."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            syncfs = ctypes.CDLL(None, use_errno=True).syncfs
        except AttributeError:  # not Linux
            os.sync()
            return
        if syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)


def disk_error(path: Path, error: OSError) -> RescoldoError:
    """Translate the failure of an operation at `path` for the user."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: there is no space left for the upload ({error.strerror}): free some space"
        )
    return StoreError(f"{path}: {error.strerror or error}: check the folder's owner and mode and the disk")
