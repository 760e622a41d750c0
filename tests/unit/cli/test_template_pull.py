import json
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

GIT = ("git", "-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")


@pytest.fixture
def repository(tmp_path):
    """A repository with two templates; the branch `next` has a third."""
    folder = tmp_path / "templates"

    def template(name: str, text: str) -> None:
        place = folder / "template" / name
        (place / "function").mkdir(parents=True)
        (place / "template.yml").write_text(text)
        (place / "function" / "handler.py").write_text(f"# {name}\n")

    def git(*words: str) -> None:
        subprocess.run([*GIT, *words], cwd=folder, check=True, capture_output=True)

    template("greeter", "language: python3\nrescoldo: {style: http}\n")
    template("cobol", "language: cobol\n")
    git("init")
    git("add", ".")
    git("commit", "-m", "one")
    git("checkout", "-b", "next")
    template("later", "language: python3\nrescoldo: {style: http}\n")
    git("add", ".")
    git("commit", "-m", "two")
    git("checkout", "main")
    return folder


def test_a_pull_writes_the_templates_and_says_which_cannot_run_here(run, repository):
    status, out, err = run("template", "pull", str(repository))
    assert (status, out) == (0, "Wrote to ./template: cobol, greeter.\n")
    assert "rescoldo cannot run them: cobol" in err
    assert run("new", "hi", "--lang", "greeter")[0] == 0
    assert Path("hi/handler.py").read_text() == "# greeter\n"
    assert sorted(path.name for path in Path("template").iterdir()) == ["cobol", "greeter"]


def test_existing_templates_are_kept_without_overwrite(run, repository):
    run("template", "pull", str(repository))
    mine = Path("template/greeter/function/handler.py")
    mine.write_text("# mine\n")
    status, out, err = run("template", "pull", str(repository))
    assert (status, out) == (0, "") and "Kept in ./template: cobol, greeter; --overwrite" in err
    assert mine.read_text() == "# mine\n"
    assert json.loads(run("template", "pull", str(repository), "--overwrite", "--json")[1]) == {
        "written": ["cobol", "greeter"],
        "kept": [],
    }
    assert mine.read_text() == "# greeter\n"


def test_a_branch_may_be_named_and_the_environment_gives_the_default(run, repository, monkeypatch):
    monkeypatch.setenv("OPENFAAS_TEMPLATE_URL", f"{repository}#next")
    assert run("template", "pull")[1] == "Wrote to ./template: cobol, greeter, later.\n"
    status, _, err = run("template", "pull", f"{repository}#gone")
    assert status == 1 and "git clone failed" in err and "gone" in err


def test_only_the_templates_that_a_stack_file_names_are_pulled(run, repository):
    head = "provider: {name: openfaas}\nfunctions: {}\n"
    Path("stack.yaml").write_text(
        head + f"configuration: {{templates: [{{name: greeter, source: {repository.as_uri()}}}]}}\n"
    )
    assert run("template", "pull", "stack")[1] == "Wrote to ./template: greeter.\n"
    Path("stack.yaml").write_text(head)
    assert "names no templates" in run("template", "pull", "stack")[2]


def test_a_repository_that_is_invalid_or_has_no_templates_changes_nothing(run, repository, tmp_path):
    assert "git clone failed" in run("template", "pull", str(tmp_path / "nothing"))[2]
    subprocess.run([*GIT, "rm", "-rq", "template"], cwd=repository, check=True)
    subprocess.run([*GIT, "commit", "-qm", "none"], cwd=repository, check=True)
    assert "it has no template, no file template/NAME/template.yml" in run("template", "pull", str(repository))[2]
    assert "git clone failed" in run("template", "pull", "ext::sh -c true")[2]
    assert list(Path().iterdir()) == []


def test_a_template_whose_links_lead_out_of_it_is_refused(run, repository):
    (repository / "template/greeter/function/passwords").symlink_to("/etc/passwd")
    subprocess.run([*GIT, "add", "."], cwd=repository, check=True)
    subprocess.run([*GIT, "commit", "-qm", "link"], cwd=repository, check=True)
    status, _, err = run("template", "pull", str(repository))
    assert status == 1 and "greeter/function/passwords is a link that leads out of its template" in err
    assert not Path("template").exists()


def test_a_password_in_a_url_is_not_shown(run):
    said = run("template", "pull", "http://me:s3cret@127.0.0.1:1/x.git")[2]
    assert "git clone failed" in said and "s3cret" not in said


def test_a_store_gives_the_repository_of_a_template(run, repository):
    Path("store.json").write_text(
        json.dumps(
            [
                {"template": "greeter", "platform": "x86_64", "language": "Python", "source": "me",
                 "description": "Greets", "repo": str(repository), "official": "true", "recommended": True},
                {"template": "cobol", "platform": "arm64", "language": "COBOL", "repo": "x", "official": "false"},
            ]
        )
    )  # fmt: skip
    out = run("template", "store", "list", "--url", "store.json")[1]
    assert [line.split() for line in out.splitlines()] == [
        ["NAME", "LANGUAGE", "SOURCE", "DESCRIPTION"],
        ["cobol", "COBOL"],
        ["greeter", "Python", "me", "Greets"],
    ]
    found = run("template", "store", "list", "-u", "store.json", "--official", "--recommended", "--json")[1]
    assert [item["template"] for item in json.loads(found)] == ["greeter"]
    assert len(run("template", "store", "list", "-u", "store.json", "-p", "arm64")[1].splitlines()) == 2
    assert run("template", "store", "pull", "greeter", "-u", "store.json")[1].startswith("Wrote to ./template: cobol")
    assert "did you mean 'greeter'" in run("template", "store", "pull", "greter", "-u", "store.json")[2]


# -- templates that the stack file names


def write_project(source: str, lang: str = "greeter") -> None:
    Path("mine").mkdir()
    Path("mine/handler.py").write_text("def handle(event, context):\n    return 'x'\n")
    Path("stack.yaml").write_text(
        f"provider: {{name: openfaas}}\nconfiguration:\n  templates: [{{name: {lang}, source: '{source}'}}]\n"
        f"functions:\n  mine: {{lang: {lang}, handler: ./mine}}\n"
    )


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_template_that_the_stack_file_names_is_fetched_for_a_build_once(run, repository, form):
    write_project(form.format(repository))
    status, out, err = run("build", "--json")
    assert status == 0 and json.loads(out)["mine"]["state"] == "built" and "pulling the template greeter" in err
    assert Path("template/greeter/template.yml").is_file() and not Path("template/cobol").exists()
    assert "pulling" not in run("build")[2]


def test_a_branch_and_a_path_relative_to_the_stack_file_are_understood(run, repository, monkeypatch):
    place = Path("sub")
    place.mkdir()
    monkeypatch.chdir(place)
    write_project("../../templates#next", "later")
    monkeypatch.chdir("..")
    assert run("build", "-f", "sub/stack.yaml")[0] == 0
    assert Path("template/later/template.yml").is_file()


def test_a_template_that_cannot_be_fetched_fails_its_function_alone(run, repository, gateway):
    write_project("file:///nowhere/at/all")
    with Path("stack.yaml").open("a") as file:
        file.write("  other: {lang: python3-http, handler: ./mine}\n")
    status, out, err = run("up", "--skip-deploy", "--json")
    assert status == 1 and "stack.yaml:5: mine: file:///nowhere/at/all: git clone failed" in err
    assert [one["state"] for one in json.loads(out)] == ["failed", "built"]


def test_a_fetched_template_that_cannot_be_built_says_which_kind_is_missing(run, repository):
    write_project(str(repository), "cobol")
    status, _, err = run("build")
    assert status == 1 and "the template is for cobol" in err and "kinds python and process" in err


def test_a_local_template_is_not_fetched(run):
    write_project("file:///nowhere/at/all", "python3-http")
    assert run("build")[0] == 0 and not Path("template").exists()


def test_validate_fetches_nothing_and_names_the_command_that_does(run, repository):
    write_project(str(repository))
    status, _, err = run("validate")
    assert status == 1 and "rescoldo template pull stack" in err and not Path("template").exists()


def test_new_accepts_a_template_that_the_stack_file_names(run, repository):
    write_project(str(repository))
    assert run("new", "other", "--lang", "greeter")[0] == 0
    assert Path("other/handler.py").read_text() == "# greeter\n"
