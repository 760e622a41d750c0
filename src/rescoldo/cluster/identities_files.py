"""Control's own certificate, in files that its server reads. It is in no Secret: each control has a key of its own."""

from __future__ import annotations

from pathlib import Path

from rescoldo.cluster.authority import Authority, Pair
from rescoldo.cluster.identities_wanted import control_subject
from rescoldo.durable import replace_private


class ControlFiles:
    """Writes the files of one control; only its user may read them."""

    def __init__(self, folder: Path, system: str) -> None:
        """`system`: control's namespace."""
        self.certificate = folder / "control.pem"  # with the key
        self.authority = folder / "authority.pem"
        self._subject = control_subject(system)
        self._pair = Pair(b"", b"")
        self._trusted = b""

    def write(self, authority: Authority, now: float) -> bool:
        """Bring the files to what they should be at `now` (Unix seconds); return whether they were not. Raises
        InvalidInput for an authority that has ended, OSError."""
        trusted, fits = authority.pair.certificate, authority.fits(self._pair, self._subject, now)
        if fits and trusted == self._trusted:
            return False
        if not fits:
            self._pair = authority.issue(self._subject, now)
        self.certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_private(self.authority, trusted)
        replace_private(self.certificate, self._pair.certificate + self._pair.key)
        self._trusted = trusted
        return True
