"""The values that `rescoldo.dev/cors` accepts."""

from __future__ import annotations

import pytest

from rescoldo.model.cors import MOST_ORIGINS, origins
from rescoldo.model.errors import InvalidInput

KEY = "rescoldo.dev/cors"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ()),
        (" * ", ("*",)),
        ("https://shop.example", ("https://shop.example",)),
        ("https://a.example, http://localhost:3000  capacitor://localhost", (
            "https://a.example", "http://localhost:3000", "capacitor://localhost",
        )),
        ("http://[::1]:3000,http://[::1]:3000", ("http://[::1]:3000",)),
    ],
)  # fmt: skip
def test_origins_are_parsed(text: str, found: tuple[str, ...]) -> None:
    assert origins({KEY: text}, KEY) == found


@pytest.mark.parametrize(
    "text",
    [
        "true", "shop.example", "https://shop.example/", "https://shop.example/path", "https://Shop.example",
        "https://*.shop.example", "*,https://shop.example", "null", "https://shop.example:port", "https://a|b",
        "https://caf\xe9.example", "https://a.example;x", "https://u@a.example",
        ",".join(f"https://a{number}.example" for number in range(MOST_ORIGINS + 1)),
    ],
)  # fmt: skip
def test_an_invalid_origin_is_refused_with_a_valid_example(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        origins({KEY: text}, KEY)
    assert refused.value.message.startswith(f"{KEY}: '{text[:10]}")
    assert "https://shop.example" in refused.value.message
