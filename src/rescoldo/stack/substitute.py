"""`${VAR}` and `${VAR:-default}` in a stack file (https://docs.openfaas.com/reference/yaml).

OpenFaaS puts the values in before YAML reads the text, so that a ` #` in a value cuts it off, a line break ends it, and
`{` makes keys of it. Here a mark stands in each variable's place while YAML reads the text, and the value takes the
mark's place in the text that was read: it arrives as it is, or not at all. What stands in comments is never looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rescoldo.model.errors import InvalidInput

MAX_BYTES = 2**20  # of all values put into one file, which may name a large one many times
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters, which YAML takes for letters wherever they stand
_EXPRESSION = re.compile(r"\$\{([^}\n]*)(\}?)|" + _OPEN)
_MARK = re.compile(f"{_OPEN}([0-9]+){_CLOSE}")
_FORM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?")
_QUOTED = re.compile(r"(['\"])(.*)\1")


@dataclass(frozen=True, slots=True)
class _Expression:
    text: str  # as it was written
    line: int  # of the file, from 1

    @property
    def form(self) -> re.Match[str] | None:
        """Its name and default; None for a form that is not known."""
        if not self.text.startswith("${") or not self.text.endswith("}"):
            return None
        form = _FORM.fullmatch(self.text[2:-1])
        return None if form is None or "${" in (form[2] or "") else form


@dataclass(frozen=True, slots=True)
class Filled:
    """A text of the file with values in it."""

    text: str
    names: tuple[str, ...]  # of the variables
    literal: bool  # a variable gave it something: what it spells is text, never null


@dataclass(slots=True)
class Variables:
    """The variables of one file, `name` in messages."""

    name: str
    environment: Mapping[str, str]
    budget: int = MAX_BYTES
    _expressions: list[_Expression] = field(default_factory=list)

    def take_out(self, text: str) -> str:
        """`text` with a mark for each variable; its lines stay where they are."""
        line, seen = 1, 0

        def mark(match: re.Match[str]) -> str:
            nonlocal line, seen
            line += text.count("\n", seen, match.start())
            seen = match.start()
            self._expressions.append(_Expression(match[0], line))
            return f"{_OPEN}{len(self._expressions) - 1}{_CLOSE}"

        return _EXPRESSION.sub(mark, text)

    def fill(self, text: str, *, plain: bool) -> Filled | None:
        """`text` with the values in; None where there is nothing to put in. `plain`: it was written without quotes.

        A variable that is not set is empty; `:-default` stands in for one that is not set or empty. Raises
        InvalidInput, naming file, line and variable.
        """
        if _OPEN not in text:
            return None
        names: list[str] = []
        values: list[str] = []
        whole = plain and _MARK.fullmatch(text) is not None

        def value(match: re.Match[str]) -> str:
            expression = self._expressions[int(match[1])]
            if expression.text == _OPEN:
                return _OPEN
            values.append(self._value(expression, unquote=whole))
            names.append(expression.text[2:-1].partition(":")[0])
            return values[-1]

        filled = _MARK.sub(value, text)
        literal = any(values)
        return Filled(filled if literal or not plain else filled.strip(), tuple(names), literal)

    def check_forms(self) -> None:
        """Raise InvalidInput for the first variable that is written in a form that is not known."""
        for expression in self._expressions:
            if expression.text != _OPEN and expression.form is None:
                raise self._unknown(expression)

    def shown(self, text: str) -> str:
        """`text`, a message about the marked text, with what the author wrote in the place of each mark."""
        return _MARK.sub(lambda match: self._expressions[int(match[1])].text, text)

    def on(self, first: int, last: int) -> tuple[str, ...]:
        """The variables in lines (from 1)."""
        return tuple(one.text for one in self._expressions if first <= one.line <= last and one.text != _OPEN)

    def _value(self, expression: _Expression, *, unquote: bool) -> str:
        form = expression.form
        if form is None:
            raise self._unknown(expression)
        value = self.environment.get(form[1], "")
        if not value and form[2]:
            quoted = _QUOTED.fullmatch(form[2])
            value = quoted[2] if quoted is not None and unquote else form[2]
        try:
            self.budget -= len(value.encode())
        except UnicodeEncodeError as error:
            raise InvalidInput(f"{self._where(expression)}: the value of {form[1]} is not UTF-8 text") from error
        if self.budget < 0:
            raise InvalidInput(
                f"{self._where(expression)}: with {form[1]} the values of variables exceed {MAX_BYTES:,} bytes"
            )
        return value

    def _unknown(self, expression: _Expression) -> InvalidInput:
        return InvalidInput(
            f"{self._where(expression)}: {expression.text!r} is not a supported substitution; "
            "write ${NAME} or ${NAME:-default}, without a variable in the default"
        )

    def _where(self, expression: _Expression) -> str:
        return f"{self.name}:{expression.line}"
