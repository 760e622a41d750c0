"""The rules for a function's secret: a name and some bytes."""

from __future__ import annotations

from rescoldo.model.errors import InvalidInput, TooLarge
from rescoldo.model.names import check_secret_name

MAX_SECRET = 2**20  # bytes; Kubernetes' limit
MAX_NAMESPACE_SECRETS = 1000


def check_secret(name: str, value: bytes) -> None:
    """Raise InvalidInput or TooLarge for a bad secret; a message never contains the value."""
    check_secret_name(name)
    if not value:
        raise InvalidInput(f"secret {name} is empty: give it a value")
    if len(value) > MAX_SECRET:
        raise TooLarge(f"secret {name} has {len(value)} bytes; at most {MAX_SECRET} are allowed")
