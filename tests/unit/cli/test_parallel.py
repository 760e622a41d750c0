"""Many functions deployed in parallel, against a server that records its requests."""

import json
from pathlib import Path

MANY = 40


def write_stack() -> list[str]:
    names = [f"many-{number}" for number in range(MANY)]
    functions = "".join(f"  {name}: {{skip_build: true, lang: python3, handler: ./x, image: x}}\n" for name in names)
    Path("stack.yaml").write_text("provider: {name: openfaas}\nfunctions:\n" + functions)
    return names


def test_functions_deployed_in_parallel_are_listed_in_the_stack_files_order(run, gateway):
    names = write_stack()
    status, out, _ = run("deploy", "--parallel", "8", "--json")
    assert status == 0 and [deployed["name"] for deployed in json.loads(out)] == names
    assert sorted(call.json["service"] for call in gateway.changes()) == sorted(names)


def test_a_refused_function_does_not_stop_the_others_and_each_has_a_line(run, gateway):
    names = write_stack()
    gateway.answer("PUT /system/functions", 400, b"image x was not built here")
    gateway.answer("PUT /system/functions", 202)
    status, out, err = run("deploy", "--parallel", "2")
    *lines, summary = out.splitlines()
    assert status == 1 and [line.split()[0] for line in lines] == names
    assert summary == f"{MANY} functions: {MANY - 1} deployed, 1 failed."
    (failed,) = [line for line in lines if line.split()[1] == "failed"]
    assert "image x was not built here" in failed and err.count("image x was not built here") == 1


def test_a_refused_password_is_reported_once_and_stops_the_deployment(run, gateway):
    write_stack()
    gateway.answer("PUT /system/functions", 401)
    status, out, err = run("deploy", "--parallel", "2")
    assert status == 1 and err.count("rescoldo login") == 1
    assert len(gateway.changes()) < MANY and "not tried" in out


def test_many_functions_are_removed_in_parallel_with_a_line_each(run, gateway):
    names = write_stack()
    gateway.answer("DELETE /system/functions", 404)
    gateway.answer("DELETE /system/functions", 500, b"broken")
    gateway.answer("DELETE /system/functions", 202)
    gateway.together = 8  # no removal gets a response before this many arrived
    status, out, err = run("remove", "--all", "--parallel", "8")
    *lines, summary = out.splitlines()
    assert status == 1 and [line.split()[0] for line in lines] == names
    assert summary == f"{MANY} functions: {MANY - 2} removed, 2 failed."
    assert err.count("is not deployed") == 1
    assert not gateway.waited_in_vain
    assert sorted(call.json["functionName"] for call in gateway.changes()) == sorted(names)


def test_an_invalid_parallel_names_the_allowed_range(run, gateway):
    write_stack()
    status, _, err = run("up", "--parallel", "0")
    assert status == 2 and "--parallel" in err and "from 1 to 32" in err
    assert gateway.calls == []
