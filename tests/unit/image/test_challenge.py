"""How a registry asks who is there."""

from __future__ import annotations

import pytest

from rescoldo.image.challenge import Challenge, read_challenge


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (
            'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push"',
            Challenge("bearer", "https://auth.docker.io/token", "registry.docker.io", "repository:a/b:pull,push"),
        ),
        (
            'bearer Realm="/token", scope="repository:a:pull repository:b:pull" , error="invalid_token"',
            Challenge("bearer", "/token", "", "repository:a:pull repository:b:pull"),
        ),
        ("Bearer realm=https://x/token", Challenge("bearer", "https://x/token")),
        ('Basic realm="a registry"', Challenge("basic")),
        ("BASIC", Challenge("basic")),
        ("Bearer", None),
        ("Negotiate", None),
        ("", None),
    ],
)
def test_a_challenge_is_read(header: str, found: Challenge | None) -> None:
    assert read_challenge(header) == found
