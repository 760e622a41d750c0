from __future__ import annotations

from typing import Any

import pytest

from rescoldo.kinds.deployment import check_spec
from rescoldo.model.errors import InvalidInput, RescoldoError, StartFailed
from rescoldo.model.function import FunctionSpec
from rescoldo.model.metadata import MAX_ENTRIES, MAX_IMAGE

ESC = "\x1b[2J"
MANY = {f"k{number}": "" for number in range(MAX_ENTRIES + 1)}


@pytest.mark.parametrize(
    "fields",
    [
        {"image": f"me/{ESC}"},
        {"image": "me/\ud800"},
        {"image": "i" * (MAX_IMAGE + 1)},
        {"env_process": f"python {ESC}"},
        {"labels": {"team": ESC}},
        {"labels": {"team": "a\nb"}},
        {"labels": {"": "empty"}},
        {"labels": {"te\nam": "a"}},
        {"labels": {"team": "\u202egnp.exe"}},
        {"labels": MANY},
        {"annotations": {ESC: ""}},
        {"annotations": {"about": f"a{ESC}"}},
        {"annotations": MANY},
        {"env_vars": {"A\n": ""}},
        {"env_vars": {"A": "\0"}},
        {"env_vars": {"A": "half \ud800"}},
        {"env_vars": MANY},
        {"constraints": (ESC,)},
        {"constraints": tuple(MANY)},
        {"limits": {"memory": "\x9b"}},
    ],
)
def test_control_characters_unencodable_and_oversized_texts_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as caught:
        check_spec(FunctionSpec(**({"name": "fn", "image": "i"} | fields)))
    assert caught.value.message.isprintable()


def test_texts_in_other_languages_and_multi_line_values_are_accepted() -> None:
    check_spec(
        FunctionSpec(
            "fn", "ghcr.io/me/fn:1", labels={"équipe": "données\tΩ 👩\u200d🚀"},
            annotations={"about": "one\n\ttwo"}, env_vars={"KEY": "-----BEGIN\r\nx\x1b[1m\n", "é": "1"},
        )
    )  # fmt: skip


@pytest.mark.parametrize("kind", [RescoldoError, StartFailed, InvalidInput])
def test_the_message_of_an_error_can_always_be_encoded(kind: type[RescoldoError]) -> None:
    assert kind("half \ud800 of it").message.encode() == "half \ufffd of it".encode()
    assert str(kind("half \udcff")) == "half \ufffd"
