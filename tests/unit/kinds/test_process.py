"""The meaning of fprocess, mode and upstream_url."""

from __future__ import annotations

import pytest

from rescoldo.kinds.deployment import check_spec, start_of
from rescoldo.model.errors import InvalidInput
from rescoldo.model.function import FunctionSpec
from rescoldo.model.instance import Launch
from rescoldo.model.names import FunctionId, InstanceId
from rescoldo.model.program import Start


def start(process: str, env: dict[str, str]) -> Start:
    return start_of(FunctionSpec("fn", "image", env_process=process, env_vars=env))


@pytest.mark.parametrize(
    ("url", "upstream"),
    [
        ("http://127.0.0.1:8000", "tcp:8000"),
        ("http://127.0.0.1:8000/", "tcp:8000"),
        (" http://localhost:1 ", "tcp:1"),
        ("http://0.0.0.0:65535", "tcp:65535"),
        ("http://[::1]:3000", "tcp:3000"),
        ("unix", "unix"),
        ("inherited", "inherited"),
    ],
)
def test_upstream_url_says_how_a_program_accepts_requests(url: str, upstream: str) -> None:
    assert start("./server -v", {"upstream_url": url}) == Start("process", ("./server", "-v"), upstream)


def test_command_and_url_are_read_from_all_names_of_the_watchdog() -> None:
    wanted = Start("process", ("x",), "tcp:1")
    assert start("", {"fprocess": "x", "http_upstream_url": "http://127.0.0.1:1"}) == wanted
    assert start("", {"function_process": "x", "upstream_url": "http://127.0.0.1:1", "mode": "http"}) == wanted
    assert start("x", {"fprocess": "y", "upstream_url": "http://127.0.0.1:1"}) == wanted


def test_without_an_upstream_url_the_bundle_decides() -> None:
    spec = FunctionSpec("fn", "image", env_process="python index.py", env_vars={"mode": "streaming"})
    assert start_of(spec) == start_of(spec, "python") == Start("python")
    with pytest.raises(InvalidInput, match="upstream_url is missing"):
        start_of(spec, "process")


@pytest.mark.parametrize(
    ("process", "env", "message"),
    [
        ("", {"upstream_url": "unix"}, "but not fprocess"),
        ("x", {"upstream_url": "http://127.0.0.1"}, "names no port"),
        ("x", {"upstream_url": "http://127.0.0.1:0"}, "names no port"),
        ("x", {"upstream_url": "http://127.0.0.1:99999"}, "is not a URL"),
        ("x", {"upstream_url": "http://127.0.0.1:no"}, "is not a URL"),
        ("x", {"upstream_url": "http://10.0.0.1:80"}, "use http://127.0.0.1:PORT, unix or inherited"),
        ("x", {"upstream_url": "https://127.0.0.1:80"}, "is not allowed"),
        ("x", {"upstream_url": "http://127.0.0.1:80/path"}, "is not allowed"),
        ("x", {"upstream_url": "http://u@127.0.0.1:80/"}, "is not allowed"),
        ("x", {"upstream_url": "unix:/tmp/x"}, "is not allowed"),
        ("x", {"upstream_url": "unix", "mode": "streaming"}, "mode: 'streaming' is not supported"),
        ("x" * 5000, {"upstream_url": "unix"}, "at most 4096 bytes"),
        ("a\0b", {"upstream_url": "unix"}, "NUL"),
    ],
)
def test_an_invalid_value_is_refused_with_the_allowed_ones(process: str, env: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message.replace("(", "\\(")):
        start(process, env)


def test_a_deployment_checks_its_program() -> None:
    spec = FunctionSpec("fn", "image", env_process="./server", env_vars={"upstream_url": "inherited"})
    assert check_spec(spec).start == Start("process", ("./server",), "inherited")
    with pytest.raises(InvalidInput, match="upstream_url"):
        check_spec(FunctionSpec("fn", "image", env_process="x", env_vars={"upstream_url": "ftp://x"}))


@pytest.mark.parametrize(
    ("upstream", "port", "binds"), [("tcp:80", 80, True), ("unix", 0, True), ("inherited", 0, False), ("", 0, False)]
)
def test_a_launch_has_the_port_and_whether_the_program_binds(upstream: str, port: int, binds: bool) -> None:
    launch = Launch(InstanceId("i"), FunctionId("fn.ns"), "d", kind="process", command=("x",), upstream=upstream)
    assert (launch.port, launch.binds) == (port, binds)
    assert Launch.from_json(launch.to_json()) == launch
