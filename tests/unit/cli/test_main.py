import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.shell_completion import ShellComplete

from rescoldo import __version__
from rescoldo.cli.main import ALIASES, VERBS, main, root
from rescoldo.model.errors import RescoldoError


def _start(*argv: str, **options):
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    return subprocess.run([sys.executable, *argv], env=environment, capture_output=True, text=True, **options)


def test_version_is_printed(run):
    assert run("version")[:2] == (0, run("version")[1])
    assert run("version", "--short-version")[1] == f"{__version__}\n"
    assert json.loads(run("version", "--json")[1])["version"] == __version__


def _commands(command, words):
    """Each complete command, with its words."""
    if not isinstance(command, click.Group):
        yield words, command
        return
    for name in command.list_commands(click.Context(command)):
        yield from _commands(command.get_command(click.Context(command), name), (*words, name))


def test_every_verb_has_json():
    every = dict(_commands(root, ()))
    assert len(every) > len(VERBS)
    without = [words for words, command in every.items() if not any("--json" in p.opts for p in command.params)]
    assert without == []


def test_version_is_a_flag_too(run):
    assert run("--version")[:2] == (0, f"rescoldo {__version__}\n")


def test_help_is_a_verb_too(run):
    assert run("help")[1] == run("--help")[1]
    assert run("help", "secret", "create")[1] == run("secret", "create", "--help")[1]
    assert run("help", "list", "--json")[1].startswith('{\n  "command": "rescoldo list"')
    status, _, err = run("help", "secret", "nothing")
    assert status == 2 and "no command 'secret nothing'" in err


@pytest.mark.parametrize("verb", VERBS)
def test_the_list_of_verbs_matches_the_help_of_each_verb(verb):
    command = root.get_command(click.Context(root), verb)
    assert command.help.splitlines()[0] == VERBS[verb][1]
    assert command.name == verb


def test_aliases_lead_to_their_verbs():
    for alias, verb in ALIASES.items():
        assert root.get_command(click.Context(root), alias).name == verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0 and VERBS[verb][1].split(".")[0] in " ".join(out.split())


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["--help"], ["version"]])
def test_help_and_version_import_nothing_heavy(argv):
    code = (
        "import sys; from rescoldo.cli.main import main; main(sys.argv[1:]);"
        "heavy = {'fastapi', 'pydantic', 'httpx2', 'rich', 'yaml', 'asyncio', 'uvicorn'};"
        "sys.exit(repr(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = _start("-c", code, *argv)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_verb_is_a_usage_error_with_a_suggestion(run):
    status, _, err = run("deply")
    assert status == 2 and "no command 'deply'. Did you mean 'deploy'?" in err


def test_an_unknown_flag_is_a_usage_error(run):
    assert run("list", "--colour")[0] == 2


def test_a_failure_is_a_message_and_exit_status_one(run):
    status, out, err = run("build", "-f", "none.yaml")
    assert (status, out) == (1, "") and err == "Error: none.yaml: cannot be read: No such file or directory\n"


@pytest.mark.parametrize("value", ["x", "1.5", "0", "33"])
def test_a_number_that_an_option_does_not_take_is_refused_with_those_that_it_takes(run, value):
    status, _, err = run("up", "--parallel", value)
    assert status == 2
    assert f"'--parallel': '{value}' is not allowed; use a whole number from 1 to 32\n" in err
    assert "use a whole number of 0 or more" in run("scale", "hello", "x")[2]


def _raising(error):
    @click.command()
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (RescoldoError("no"), 1, "Error: no\n"),
        (KeyError("x"), 1, "Error: internal error: KeyError: 'x'\n"),
        (KeyboardInterrupt(), 130, "\n"),
        (PermissionError(13, "Permission denied", "/root/x"), 1, "Error: /root/x: Permission denied\n"),
        (FileNotFoundError(2, "No such file", "x"), 1, "internal error: FileNotFoundError"),
        (RecursionError("deep"), 1, "internal error: RecursionError"),
    ],
)
def test_no_exception_reaches_the_user(monkeypatch, capsys, error, status, expected):
    monkeypatch.setattr(root, "get_command", lambda ctx, name: _raising(error))
    assert main(["version"]) == status
    err = capsys.readouterr().err
    assert expected in err and "Traceback" not in err and "test_main.py" not in err


def test_debug_shows_the_traceback_of_an_internal_error(monkeypatch, capsys):
    monkeypatch.setattr(root, "get_command", lambda ctx, name: _raising(KeyError("x")))
    monkeypatch.setenv("RESCOLDO_DEBUG", "1")
    assert main(["version"]) == 1
    assert "test_main.py" in capsys.readouterr().err


@pytest.mark.slow
def test_a_closed_pipe_prints_no_error():
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-m", "rescoldo.cli", "--help"],
        env=environment,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert done.stderr == b""


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["stdin", "stdout", "stderr"])
def test_a_stream_that_the_caller_has_closed_is_no_error(closed):
    number = ("stdin", "stdout", "stderr").index(closed)
    command = f"exec {shlex.quote(sys.executable)} -m rescoldo.cli version {number}>&-"
    done = _start("-c", f"import subprocess, sys; sys.exit(subprocess.call({command!r}, shell=True))")
    assert (done.returncode, done.stderr) == (0, "")
    assert bool(done.stdout) == (closed != "stdout")


@pytest.mark.slow
def test_a_full_disk_below_the_output_is_named():
    done = _start("-c", "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-m', 'rescoldo.cli', "
                  "'version'], stdout=open('/dev/full', 'w')))")  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "Error: cannot write the output: No space left on device\n")


@pytest.mark.slow
def test_ctrl_c_during_the_imports_is_no_traceback(tmp_path):
    (tmp_path / "click").mkdir()
    (tmp_path / "click" / "__init__.py").write_text("raise KeyboardInterrupt")
    environment = {**os.environ, "PYTHONPATH": ":".join((str(tmp_path), *sys.path))}
    done = subprocess.run([sys.executable, "-m", "rescoldo.cli"], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (130, b"")


@pytest.mark.slow
def test_ctrl_c_ends_a_wait_with_status_130():
    argv = [sys.executable, "-m", "rescoldo.cli", "ready", "-g", "http://127.0.0.1:1", "--interval", "60s"]
    environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}

    def heed() -> None:  # a shell that runs tests in the background makes its children ignore SIGINT
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    with subprocess.Popen(argv, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed) as process:
        assert process.stderr.readline() == "[1/60] http://127.0.0.1:1 is not ready: no answer\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), process.stderr.read()) == (130, "\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_program(run, shell):
    status, out, _ = run("completion", shell)
    assert status == 0 and "_RESCOLDO_COMPLETE" in out and "rescoldo" in out


@pytest.mark.slow
def test_completion_offers_the_verbs():
    environment = {
        **os.environ,
        "PYTHONPATH": ":".join(sys.path),
        "_RESCOLDO_COMPLETE": "bash_complete",
        "COMP_WORDS": "rescoldo de",
        "COMP_CWORD": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "rescoldo.cli"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["plain,deploy", "plain,describe"]


def _completed(words: str, word: str) -> list[str]:
    """The completions that a shell offers for `word` after `words`."""
    complete = ShellComplete(root, {}, "rescoldo", "_RESCOLDO_COMPLETE")
    return [item.value for item in complete.get_completions(words.split()[1:], word)]


def test_completion_offers_names_of_functions_secrets_namespaces_and_templates(gateway):
    gateway.answer("GET /system/functions", 200, [{"name": "greet"}, {"name": "grow"}, {"name": "other"}])
    gateway.answer("GET /system/secrets", 200, [{"name": "api-key"}])
    gateway.answer("GET /system/namespaces", 200, ["dev", "openfaas-fn"])
    verbs = "invoke logs describe remove rollback scale traffic revisions ready pause resume"
    for verb in verbs.split():
        assert _completed(f"rescoldo {verb} -n dev", "gr") == ["greet", "grow"]
    assert gateway.calls[-1].path == "/system/functions?namespace=dev"
    assert _completed("rescoldo secret update", "") == _completed("rescoldo deploy --secret", "a") == ["api-key"]
    assert _completed("rescoldo namespace remove", "d") == _completed("rescoldo list --namespace", "d") == ["dev"]
    assert "python3-http" in _completed("rescoldo new x --lang", "python3")


def test_completion_offers_the_names_of_the_stack_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stack.yaml").write_text("provider: {name: openfaas}\nfunctions: {greet: {lang: l, handler: h}}\n")
    for verb in ("up", "build", "deploy", "diff", "watch"):
        assert _completed(f"rescoldo {verb}", "g") == ["greet"]


def test_completion_offers_nothing_if_no_gateway_answers(monkeypatch, capfd):
    monkeypatch.setenv("OPENFAAS_URL", "http://127.0.0.1:1")
    assert _completed("rescoldo invoke", "") == []
    assert capfd.readouterr() == ("", "")
