"""Everything that the documents name exists: files, functions in them, make targets, verbs of the command."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from rescoldo.cli.main import ALIASES, VERBS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "rescoldo"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *SOURCE.glob("templates/*/README.md"),
    )
)
# where a document's paths begin: the repository, the package, tests
BASES = (ROOT, SOURCE)
FILE = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|lua|sql|tmpl|md|toml)|\.ci/run|pyproject\.toml|scripts/\w+)`")
SYMBOL = re.compile(r"`([A-Za-z_][\w.]*)`\s+in\s+`([\w./-]+\.(?:py|lua))`")
NAME = re.compile(r"_?[A-Za-z]\w*(\.\w+)?")
OTHER = re.compile(r"s\d+|.*\.(?:toml|py)")  # names of slots and files
BACKQUOTED = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)#]+)(?:#[\w-]+)?\)")
SECTION = re.compile(r"\]\(([^)#:]*)#([\w-]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
VERB = re.compile(r"(?:^|[\s`$])rescoldo ([a-z]+)\b")
TARGET = re.compile(r"(?:^|[\s`])make ([a-z][\w-]*)")
OWNED_BY_BENCH = "bench/results.json"  # a run writes it; a checkout does not have it
# a file with its folder in a comment or docstring of the source; not the end of a URL or of a longer path
CITED = re.compile(r"(?<![\w./{*-])((?:[\w.-]+/)+[\w-]+\.(?:py|md|sql|lua|toml|cfg\.tmpl))(?![\w/])")
IN_A_BUNDLE = ("function/", "deps/")  # folders of a bundle, not of this repository


def is_defined(name: str, source: str) -> bool:
    """Whether each part of a dotted name is a function, a class, a constant or a field of a file in Python or Lua."""
    forms = r"(?:async )?def {0}\b|class {0}\b|local function {0}\b|(?:self\.|local )?{0}(?:: .+)? = |{0}: "
    return all(re.search(rf"^\s*(?:{forms.format(part)})", source, re.MULTILINE) for part in name.split("."))


def text_of(document: str) -> str:
    return (ROOT / document).read_text()


def code_of(document: str) -> str:
    """The literal parts: blocks and backquoted words. A sentence may say "make" and "rescoldo runs"."""
    text = text_of(document)
    blocks = BLOCK.findall(text)
    return "\n".join([*blocks, *BACKQUOTED.findall(BLOCK.sub("", text))])


def sections_of(path: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a document."""
    headings = HEADING.findall(BLOCK.sub("", path.read_text()))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def exists(name: str) -> bool:
    return name == OWNED_BY_BENCH or any((base / name).exists() for base in BASES)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    assert [name for name in FILE.findall(text_of(document)) if not exists(name)] == []


def test_every_file_that_the_source_cites_exists() -> None:
    cited = {
        name: path.relative_to(ROOT).as_posix()
        for path in SOURCE.rglob("*")
        if path.suffix in (".py", ".lua", ".sql", ".tmpl")
        for name in CITED.findall(path.read_text())
    }
    assert len(cited) > 20
    lost = {name: by for name, by in cited.items() if not exists(name) and not name.startswith(IN_A_BUNDLE)}
    assert lost == {}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_to_a_file(document: str) -> None:
    here = (ROOT / document).parent
    links = [link for link in LINK.findall(text_of(document)) if "://" not in link]
    assert [link for link in links if not (here / link).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_to_a_section_finds_its_heading(document: str) -> None:
    here = ROOT / document
    links = SECTION.findall(text_of(document))
    lost = [
        f"{name}#{section}"
        for name, section in links
        if section not in sections_of(here.parent / name if name else here)
    ]
    assert lost == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_name_that_a_document_places_in_a_file_is_defined_there(document: str) -> None:
    missing = [
        f"{name} in {file}"
        for name, file in SYMBOL.findall(text_of(document))
        if not is_defined(name, next(base / file for base in BASES if (base / file).exists()).read_text())
    ]
    assert missing == []


def test_the_architecture_draws_the_layers_that_the_linter_enforces() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    whole, *inside = [contract for contract in contracts if contract["type"] == "layers"]
    text = text_of("ARCHITECTURE.md")
    section = text[text.index("\n## Layers") : text.index("\n### Folders")]
    drawn, within = BLOCK.findall(section)
    assert drawn.splitlines()[1:-1] == [layer.replace("rescoldo.", "") for layer in whole["layers"]]
    layers_of = {contract["containers"][0].removeprefix("rescoldo."): contract["layers"] for contract in inside}
    assert [" ".join(line.split()) for line in within.splitlines()[1:-1]] == [
        f"{package} {' > '.join(layers)}" for package, layers in layers_of.items()
    ]


def test_the_architecture_describes_each_folder_of_the_package() -> None:
    packages = {f"{path.parent.relative_to(SOURCE).as_posix()}/" for path in SOURCE.rglob("*/__init__.py")}
    assert len(packages) > 20
    text = text_of("ARCHITECTURE.md")
    section = text[text.index("\n### Folders") : text.index("\n### Plug-points")]
    told = re.findall(r"^\| `([\w/]+/)` \| .+ \|$", section, re.MULTILINE)
    assert len(told) == len(set(told)) and set(told) == packages | {"templates/"}


def test_contributing_shows_the_whole_toy_kind() -> None:
    toy = (ROOT / "tests/support/constant_kind.py").read_text()
    assert f"`tests/support/constant_kind.py`:\n\n```python\n{toy}```\n" in text_of("CONTRIBUTING.md")


def test_every_function_that_the_architecture_names_exists() -> None:
    source = "\n".join(path.read_text() for path in SOURCE.rglob("*") if path.suffix in (".py", ".lua"))
    haproxy = (SOURCE / "edge/haproxy.cfg.tmpl").read_text()
    # functions and classes, names at a module's top level, fields, packages
    known = set(re.findall(r"(?:def|class|function) (\w+)", source)) | set(re.findall(r"^(\w+)", source, re.MULTILINE))
    known |= set(re.findall(r"^\s+(\w+): ", source, re.MULTILINE)) | {path.name for path in SOURCE.iterdir()}
    prose = BLOCK.sub("", text_of("ARCHITECTURE.md"))
    names = {word for word in BACKQUOTED.findall(prose) if NAME.fullmatch(word) and not OTHER.fullmatch(word)}
    assert len(names) > 40
    assert [name for name in sorted(names) if not set(name.split(".")) <= known and name not in haproxy] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_a_document_names_exists(document: str) -> None:
    assert [name for name in TARGET.findall(code_of(document)) if name not in make_targets()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_verb_that_a_document_names_exists(document: str) -> None:
    named = VERB.findall(code_of(document))
    assert [name for name in named if name not in VERBS and name not in ALIASES] == []


def test_the_patterns_find_names_in_the_documents() -> None:
    # else a change of style would leave the tests above with nothing to check
    assert len(FILE.findall(text_of("ARCHITECTURE.md"))) > 40
    assert len(SYMBOL.findall(text_of("ARCHITECTURE.md"))) > 20
    assert len(TARGET.findall(code_of("README.md"))) >= 2
    assert len(TARGET.findall(code_of("CONTRIBUTING.md"))) >= 4
    assert len(VERB.findall(code_of("README.md"))) >= 8
