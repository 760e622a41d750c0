import importlib.util
from pathlib import Path
from types import SimpleNamespace

import pytest

from rescoldo.bundle.build import BuildRequest, build
from rescoldo.model.errors import BuildFailed, InvalidInput
from rescoldo.stack.templates import ALIASES, BUILT_IN, find_template, has_template, list_templates


def _no_install(argv, work, on_line):
    raise AssertionError("a template needs nothing installed")


def _handle(folder: Path):
    spec = importlib.util.spec_from_file_location("template_handler", folder / "handler.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.handle


@pytest.mark.parametrize("name", sorted(folder.name for folder in BUILT_IN.iterdir()))
def test_every_built_in_template_builds(name, tmp_path):
    template = find_template(name, tmp_path)
    request = BuildRequest("hello", name, template.style, template.handler, template.handler)
    built = build(request, tmp_path / "out", lambda line: None, _no_install, tmp_path / "cache")
    assert built.manifest.lang == name and built.manifest.style == template.style
    assert template.built_in and template.welcome and (template.folder / "README.md").is_file()


@pytest.mark.parametrize(("body", "answer"), [(b"you\n", "Hello, you!\n"), (b"", "Hello, world!\n")])
def test_the_http_template_greets(body, answer):
    result = _handle(BUILT_IN / "python3-http/function")(SimpleNamespace(body=body), SimpleNamespace())
    assert result == {"statusCode": 200, "body": answer}


@pytest.mark.parametrize(("body", "answer"), [("you\n", "Hello, you!\n"), ("", "Hello, world!\n")])
def test_the_classic_template_greets(body, answer):
    assert _handle(BUILT_IN / "python3/function")(body) == answer


def _template(project: Path, name: str, text: str) -> None:
    folder = project / "template" / name
    folder.mkdir(parents=True)
    (folder / "template.yml").write_text(text)


def test_a_template_of_the_project_overrides_the_built_in_one(tmp_path):
    _template(tmp_path, "python3-http", "language: x\nrescoldo: {style: classic}\n")
    found = find_template("python3-http", tmp_path)
    assert (found.style, found.built_in, found.folder) == (
        "classic",
        False,
        tmp_path / "template/python3-http",
    )


@pytest.mark.parametrize(
    ("name", "style"),
    [
        ("python3-http-debian", "http"), ("python3-debian", "classic"), ("python3", "classic"),
        ("python3-flask", "classic"),
    ],
)
def test_the_name_of_a_pulled_template_gives_its_style(tmp_path, name, style):
    text = "language: python3\nfprocess: python index.py\nbuild_options:\n  - {name: dev, packages: [make]}\n"
    _template(tmp_path, name, text)
    assert find_template(name, tmp_path).style == style


def test_a_template_without_kind_or_style_is_refused_with_the_remedy(tmp_path):
    _template(tmp_path, "python3-own", "language: python3\n")
    with pytest.raises(BuildFailed, match=r"template\.yml: .* add `rescoldo: \{kind: python, style: http\}`"):
        find_template("python3-own", tmp_path)
    assert "python3-own" not in [template.name for template in list_templates(tmp_path)]


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_openfaas_names_of_the_same_contract_are_aliases(tmp_path, alias, name):
    found, ours = find_template(alias, tmp_path), find_template(name, tmp_path)
    assert (found.name, found.style, found.folder) == (alias, ours.style, ours.folder)
    assert has_template(alias, tmp_path)


def test_a_template_of_another_language_is_refused_with_the_reason_and_not_offered(tmp_path):
    _template(tmp_path, "node22", "language: node\n")
    (tmp_path / "template/node22/Dockerfile").touch()
    with pytest.raises(BuildFailed) as caught:
        find_template("node22", tmp_path)
    said = ("template/node22/template.yml", "is for node", "Dockerfile needs a container builder", "lang: process")
    for words in said:
        assert words in caught.value.message
    for lang in ("Dockerfile", "python3-htp"):
        with pytest.raises(BuildFailed) as caught:
            find_template(lang, tmp_path)
        assert "python3-http" in caught.value.message and "node22" not in caught.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rescoldo: {kind: node}", "1: rescoldo.kind: 'node' is not allowed; use python"),
        ("rescoldo: {style: cgi}", "1: rescoldo.style: 'cgi' is not allowed; use http or classic"),
        ("language: x\nrescoldo: {stile: http}", "2: rescoldo.stile: unknown key (did you mean 'style'?)"),
        ("rescoldo: {}\nhandler_folder: ../../..", "2: handler_folder: must be a folder inside"),
    ],
)
def test_a_bad_template_is_refused_with_its_line(tmp_path, text, expected):
    _template(tmp_path, "mine", text)
    with pytest.raises(InvalidInput) as caught:
        find_template("mine", tmp_path)
    assert f"template.yml:{expected}" in caught.value.message


def test_an_unknown_lang_gets_the_available_ones_and_a_suggestion(tmp_path):
    with pytest.raises(BuildFailed) as caught:
        find_template("python3-htp", tmp_path)
    available = ", ".join(sorted(folder.name for folder in BUILT_IN.iterdir()))
    assert caught.value.message == (
        f"no template 'python3-htp' (did you mean 'python3-http'?); available: {available}"
    )


@pytest.mark.parametrize("lang", ["../template/python3", "", ".", ".."])
def test_a_path_is_not_accepted_as_a_lang(tmp_path, lang):
    with pytest.raises(BuildFailed, match="no template"):
        find_template(lang, tmp_path)


def test_a_dockerfile_is_refused_as_a_container_build(tmp_path):
    with pytest.raises(BuildFailed, match="container build"):
        find_template("Dockerfile", tmp_path)
