"""How a password is read, alike wherever one comes in: from a file, standard input, a flag, a prompt."""

from __future__ import annotations


def read_password(text: str) -> str:
    """Without the white space around it, as OpenFaaS's gateway and faas-cli read theirs: an editor or `echo` leaves a
    newline that nobody types."""
    return text.strip()
