"""Where uploads go: an archive comes in, one folder a digest comes out. What bundles and layers have in common.

A folder named by a digest is always whole: it is unpacked beside, synced, and renamed into place; it is
renamed away before it is removed.
"""

from __future__ import annotations

import asyncio
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
from rescoldo.model.errors import InvalidInput, NotFound, RescoldoError, StoreError, TooLarge

P = ParamSpec("P")
T = TypeVar("T")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PARTIAL = ".partial-"  # what a crash leaves behind
BUFFER = 2**20  # bytes gathered before one hop to a thread


class ArchiveStorage:
    """Folders below `root`, uploads in `uploads`; with `own_gids` (root) each folder has a group that reads it."""

    what: str  # one is called in messages
    remedy: str  # what a user does about one that is not here

    def __init__(self, root: Path, uploads: Path, own_gids: bool) -> None:
        self._root = root
        self._uploads = uploads
        self._own_gids = own_gids
        # Unpacking competes with the event loop for the interpreter: one at a time
        self._unpacking = asyncio.Lock()

    def _check(self, folder: Path) -> None:
        """Raise InvalidInput unless what was unpacked at `folder` may be kept."""
        raise NotImplementedError

    def _complete(self, folder: Path) -> None:
        """Add to a checked folder what does not come out of its archive. Raises InvalidInput."""

    async def prepare(self) -> None:
        """Make the folders and remove what an earlier process left half-done. Call it once, at the start;
        raises StoreError."""
        await asyncio.to_thread(self._prepare)

    async def receive(self, body: AsyncIterator[bytes], limit: int, digest: str | None) -> Received:
        """Write an upload to a temporary file.

        Raises TooLarge above `limit` bytes; InvalidInput when it is empty or is not what `digest` says;
        StoreError when the disk refuses. Nothing is left when it raises or is cancelled.
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
        """Unpack an upload and remove it. One that is there already is kept.

        Raises InvalidInput (damaged, unsafe, not for this machine), TooLarge and StoreError.
        """
        await self._one_at_a_time(self._unpack, received)

    async def discard(self, received: Received) -> None:
        """Remove an upload that will not be unpacked."""
        await asyncio.to_thread(Path(received.place).unlink, missing_ok=True)

    def has(self, digest: str) -> bool:
        """Whether one of this digest is here."""
        return _DIGEST.fullmatch(digest) is not None and (self._root / digest).is_dir()

    def path(self, digest: str) -> Path:
        """The folder of one; raises NotFound."""
        if not self.has(digest):
            raise NotFound(f"no {self.what} with digest {digest[:80]} is stored here; {self.remedy}")
        return self._root / digest

    def digests(self) -> list[str]:
        """The digests that are here, sorted. Raises StoreError."""
        try:
            return sorted(entry.name for entry in self._root.iterdir() if _DIGEST.fullmatch(entry.name))
        except OSError as error:
            raise disk_error(self._root, error) from error

    async def remove(self, digest: str) -> None:
        """Remove one; an unknown one is no error. Raises StoreError."""
        if self.has(digest):
            await asyncio.to_thread(self._remove, self._root / digest)

    async def _one_at_a_time(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """Run `work` in a thread, while no other does."""
        async with self._unpacking:
            # shielded: a thread cannot be cancelled, and the lock must be held until it ends
            running = asyncio.ensure_future(asyncio.to_thread(work, *arguments, **named))
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                await asyncio.wait([running])
                if not running.cancelled():
                    running.exception()  # fetched, so that nobody warns about it
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
        # functions' own users must pass to their folder, and see no other's name
        self._root.chmod(0o711 if self._own_gids else 0o700)

    def _unpack(self, received: Received) -> None:
        final, upload = self._root / received.digest, Path(received.place)
        try:
            if not final.is_dir():
                self._make_folders()  # somebody may have removed them
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
            if self._own_gids:
                folder.chmod(0o750)
            else:
                _withdraw_group(folder)
            _sync_file_system(folder)
            folder.rename(final)
            _sync_folder(self._root)
        except BaseException:
            _remove_tree(folder)
            raise

    def _remove(self, folder: Path) -> None:
        try:
            away = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=self._root))
            folder.rename(away)  # over the empty folder just made: the name is ours alone
            _remove_tree(away)
        except OSError as error:
            raise disk_error(self._root, error) from error


class _Upload:
    """A temporary file that is written and hashed in threads, a buffer at a time."""

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
            # Opened each time: a thread left behind by a cancelled upload must not meet a closed descriptor
            # that means another file by now. And never created: it may have been removed meanwhile.
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
    """Let group `gid` read everything in `folder`. Raises StoreError."""
    try:
        if folder.stat().st_gid == gid:
            return
        for parent, folders, files in os.walk(folder):
            for name in [*folders, *files]:
                os.chown(os.path.join(parent, name), 0, gid, follow_symlinks=False)  # noqa: PTH118
        os.chown(folder, 0, gid)  # last, so that a crash before it has the whole done again
    except OSError as error:
        raise disk_error(folder, error) from error


def _withdraw_group(folder: Path) -> None:
    """Without groups of our own, nobody but the owner may read: 0700 and 0600."""
    for parent, _, files in os.walk(folder):
        os.chmod(parent, 0o700)  # noqa: PTH101
        for name in files:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(path.stat().st_mode & 0o700)


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what stays is removed at the next start


def _sync_file_system(folder: Path) -> None:
    """Bring every file below to the disk: one syncfs, where an fsync a file takes seconds for thousands."""
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


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def disk_error(path: Path, error: OSError) -> RescoldoError:
    """What to tell a user of an operation at `path` that failed."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StoreError(
            f"{path}: there is no space left for the upload ({error.strerror}): free some space"
        )
    return StoreError(f"{path}: {error.strerror or error}: check the folder's owner and mode and the disk")
