"""docs/attacks.md lists exactly the suite's attacks, with the levels that refuse each."""

from __future__ import annotations

from hostile.report import DOCUMENT, rewrite
from hostile.suite import at_level, everything


def test_the_tables_of_attacks_match_the_suite() -> None:
    text = DOCUMENT.read_text()
    assert text == rewrite(text), "run `make hostile`"


def test_every_attack_has_a_name_and_a_description_of_its_own() -> None:
    attacks = everything()
    assert len({attack.name for attack in attacks}) == len({attack.what for attack in attacks}) == len(attacks)


def test_the_lower_level_refuses_most_attacks_but_fewer() -> None:
    full, lower = ({attack.name for attack in at_level(level)} for level in ("full", "unprivileged"))
    assert lower < full
    assert len(full) > 100
    assert len(lower) > len(full) / 2
