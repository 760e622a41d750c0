"""A worker's identity towards its control: a certificate that names its pool, in a folder that kubelet keeps.

The files are replaced when control renews the certificate; connections made from then on prove themselves with the new
one.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from rescoldo.model.errors import InvalidInput

CERTIFICATE, KEY, AUTHORITY = FILES = ("tls.crt", "tls.key", "ca.crt")
LOOK_SECONDS = 5.0  # between two looks for renewed files: three small reads

Renew = Callable[[ssl.SSLContext], Awaitable[None]]

_LOG = logging.getLogger(__name__)


class Identity:
    """The files in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._used: tuple[bytes, ...] = ()  # the files' contents, as last read
        self._problem = ""  # the last one that was logged

    def read(self) -> ssl.SSLContext:
        """Return a context with the present files. Raises InvalidInput."""
        try:
            self._used = self._contents()
            context = ssl.create_default_context(cafile=str(self._folder / AUTHORITY))
            context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(
                f"--identity: {self._folder} must have {', '.join(FILES)}, as control has issued them: {error}"
            ) from error
        return context

    async def follow(self, renew: Renew) -> None:
        """Call `renew` with a context for each change of the files, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look(renew)

    async def look(self, renew: Renew) -> None:
        """Call `renew` if the files are others than those in use. Files that cannot be used are logged once."""
        try:
            if self._contents() != self._used or self._problem:
                await renew(self.read())
                _LOG.info("took over the renewed certificate in %s", self._folder)
            self._problem = ""
        except (OSError, InvalidInput) as error:
            if str(error) != self._problem:
                _LOG.error("this worker keeps its certificate: %s", error)
            self._problem = str(error)

    def _contents(self) -> tuple[bytes, ...]:
        return tuple((self._folder / name).read_bytes() for name in FILES)
