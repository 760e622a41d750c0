"""Substitutes `${VAR}` and `${VAR:-default}` in a stack file (https://docs.openfaas.com/reference/yaml).

OpenFaaS fills in the values before YAML reads the text: a ` #` in a value cuts it off, a line break ends it, and `{`
turns it into keys. Here a mark replaces each variable while YAML reads the text, and the value replaces the mark
afterwards. So a value arrives exactly as it is, or not at all. Variables in comments are never read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from rescoldo.model.errors import InvalidInput

MAX_BYTES = 2**20  # of all values filled into one file, which may use a large one many times
_OPEN, _CLOSE = "\ue000", "\ue001"  # private characters, which YAML reads as letters anywhere
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
        """The variable's name and default; None if the form is unknown."""
        if not self.text.startswith("${") or not self.text.endswith("}"):
            return None
        form = _FORM.fullmatch(self.text[2:-1])
        return None if form is None or "${" in (form[2] or "") else form


@dataclass(frozen=True, slots=True)
class Filled:
    """A text of the file with its values filled in."""

    text: str
    names: tuple[str, ...]  # of the variables
    literal: bool  # a variable was not empty: so the result is text, even if it spells null


@dataclass(slots=True)
class Variables:
    """The variables of one file, `name` in messages."""

    name: str
    environment: Mapping[str, str]
    budget: int = MAX_BYTES
    _expressions: list[_Expression] = field(default_factory=list)

    def take_out(self, text: str) -> str:
        """Return `text` with a mark for each variable; lines keep their numbers."""
        line, seen = 1, 0

        def mark(match: re.Match[str]) -> str:
            nonlocal line, seen
            line += text.count("\n", seen, match.start())
            seen = match.start()
            self._expressions.append(_Expression(match[0], line))
            return f"{_OPEN}{len(self._expressions) - 1}{_CLOSE}"

        return _EXPRESSION.sub(mark, text)

    def fill(self, text: str, *, plain: bool) -> Filled | None:
        """Return `text` with its values filled in; None if it has no marks. `plain`: it was written without quotes.

        An unset variable is empty; `:-default` replaces one that is unset or empty. Raises InvalidInput, naming file,
        line and variable.
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
        """Raise InvalidInput for the first variable in an unknown form."""
        for expression in self._expressions:
            if expression.text != _OPEN and expression.form is None:
                raise self._unknown(expression)

    def shown(self, text: str) -> str:
        """Return `text`, a message about the marked text, with each mark replaced by the author's own text."""
        return _MARK.sub(lambda match: self._expressions[int(match[1])].text, text)

    def on(self, first: int, last: int) -> tuple[str, ...]:
        """Return the variables in the lines `first` to `last` (from 1)."""
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
