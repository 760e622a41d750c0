"""The one way to read a password, whether from a file, standard input, a flag or a prompt."""

from __future__ import annotations


def read_password(text: str) -> str:
    """Return `text` without the white space around it, as OpenFaaS's gateway and faas-cli do: an editor or `echo` adds
    a newline that is not part of the password."""
    return text.strip()
