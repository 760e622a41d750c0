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


def test_a_registry_that_names_no_scope_is_asked_for_the_right_to_read() -> None:
    asked = Challenge("bearer", "https://x/token")
    assert asked.to_read("me/a").scope == "repository:me/a:pull"
    named = Challenge("bearer", "https://x/token", "", "repository:me/a:pull")
    assert named.to_read("me/a") == named


@pytest.mark.parametrize(
    ("scope", "found"),
    [
        ("", "repository:me/a:pull,push"),
        ("repository:me/a:pull", "repository:me/a:pull,push"),
        ("repository:me/b:pull repository:me/a:push,pull", "repository:me/a:pull,push repository:me/b:pull"),
    ],
)
def test_who_writes_asks_for_the_right_to_write(scope: str, found: str) -> None:
    asked = Challenge("bearer", "https://x/token", "x", scope)
    assert asked.to_write("me/a") == Challenge("bearer", "https://x/token", "x", found)
