"""Writes the suite's attacks into the tables of docs/attacks.md, and summarizes a run's counts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from hostile.suite import GROUPS, Attack, everything
from support.generated import put_between

DOCUMENT = Path(__file__).parents[2] / "docs" / "attacks.md"
BEGIN = "<!-- attacks: written by `make hostile` -->"
END = "<!-- end of the attacks -->"


COUNTED: dict[str, dict[str, bool]] = {}  # by level and attack: whether this run refused it


def table(attacks: Sequence[Attack]) -> str:
    """Format a table for each group: the attacks, and the levels that refuse them."""
    parts = []
    for group, title in GROUPS.items():
        rows = "".join(
            f"| {attack.what} | refused | {'refused' if attack.unprivileged else '**not refused**'} |\n"
            for attack in attacks
            if attack.group == group
        )
        parts.append(f"{title}:\n\n| attack | full | unprivileged |\n|---|---|---|\n{rows}")
    return "\n".join(parts)


def rewrite(text: str) -> str:
    """Put the tables between the document's two markers."""
    return put_between(text, BEGIN, END, f"\n\n{table(everything())}\n")


def summary() -> list[str]:
    """Count this run's attacks and refusals, in one line for each level."""
    return [
        f"hostile suite, level {level}: {len(results)} attacks, {sum(results.values())} refused"
        for level, results in COUNTED.items()
    ]


def main() -> int:
    """Write the tables into the document."""
    DOCUMENT.write_text(rewrite(DOCUMENT.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
