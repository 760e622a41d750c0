"""Where a stack file comes from: a path, an http(s) URL, or the default names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.document import MAX_BYTES

DEFAULT_NAMES = ("stack.yaml", "stack.yml")
FETCH_TIMEOUT = 20.0  # seconds for a stack file at a URL


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file, the name it has in messages, and the folder its relative paths start from."""

    name: str
    text: str
    folder: Path

    def path(self, relative: str) -> Path:
        """A path named in the file: from the file's folder or, as faas-cli reads it, from here."""
        beside = self.folder / relative
        return beside if beside.exists() or not Path(relative).exists() else Path(relative)


def is_url(location: str) -> bool:
    return location.startswith(("http://", "https://"))


def default_file(folder: Path) -> Path | None:
    """stack.yaml, else stack.yml, in `folder`."""
    return next((folder / name for name in DEFAULT_NAMES if (folder / name).is_file()), None)


def read_source(location: str) -> Source:
    """Read a path or URL. Raises InvalidInput when it cannot be read or is larger than a YAML file may be."""
    if is_url(location):
        return Source(location, _decode(_fetch(location), location), Path())
    path = Path(location)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{location}: cannot be read: {error.strerror or error}") from error
    return Source(location, _decode(data, location), path.parent)


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{name}: larger than the {MAX_BYTES:,} bytes allowed")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InvalidInput(f"{name}:{line}: not UTF-8 text; save the file as UTF-8") from error


def _fetch(url: str) -> bytes:
    from urllib.error import URLError  # 50 ms to import, and needed for URLs alone
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=FETCH_TIMEOUT) as response:
            return bytes(response.read(MAX_BYTES + 1))
    except (URLError, OSError, ValueError) as error:
        raise InvalidInput(f"{url}: cannot be fetched: {error}") from error
