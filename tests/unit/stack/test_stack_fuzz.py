"""Reading any file gives a stack or an InvalidInput that names the file."""

from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.document import Document, parse
from rescoldo.stack.file import StackFile, parse_stack
from rescoldo.stack.source import Source
from rescoldo.stack.substitute import Variables

PIECES = st.sampled_from(
    [
        *("version: 1.0", "provider:", "  name: openfaas", "functions:", "  a:", "    lang: x", "    handler: ./x"),
        *("    environment:", "      K: ${V}", "    <<: *r", "    limits: &r {memory: 1}", "  ? [a]", "- x", "{", "]"),
        *("    labels: !!python/object:os.system {}", "    secrets: [a, ${V:-b}]", "\t", "---", "%TAG", "&a *a", "|"),
    ]
)


def _read(text: str) -> None:
    try:
        assert isinstance(parse_stack(Source("f.yaml", text, Path()), {"V": "v: [1\n  w"}), StackFile)
    except InvalidInput as error:
        assert error.message.startswith("f.yaml:")


@settings(max_examples=200, deadline=None)
@given(st.lists(PIECES, max_size=12))
def test_any_order_of_plausible_lines_is_parsed_or_refused(lines):
    _read("\n".join(lines))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_parsed_or_refused(text):
    _read(text)


@given(st.text(alphabet=st.characters(exclude_characters="$"), max_size=100))
def test_text_without_variables_is_unchanged(text):
    variables = Variables("f", {})
    marked = variables.take_out(text)
    filled = variables.fill(marked, plain=False)
    assert (marked if filled is None else filled.text) == text


@given(st.text(alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=50))
def test_any_value_arrives_unchanged_in_every_style(value):
    lines = ["environment:", "  A: ${V}", "  B: '${V}'", '  C: "${V}"', "  D: |", "    # ${V}", "  E: {F: ${V}} # ${V"]
    root = parse("\n".join(lines), Document("f"), Variables("f", {"V": value}))
    found = root.table()["environment"].table()
    assert [found[key].text() for key in "ABCD"] == [value, value, value, f"# {value}\n"]
    assert found["E"].text_table() == {"F": value}
