"""Many functions deployed at once, against a server that records what it was asked."""

import json
from pathlib import Path

MANY = 40


def write_stack() -> list[str]:
    names = [f"many-{number}" for number in range(MANY)]
    functions = "".join(f"  {name}: {{skip_build: true, lang: python3, handler: ./x, image: x}}\n" for name in names)
    Path("stack.yaml").write_text("provider: {name: openfaas}\nfunctions:\n" + functions)
    return names


def test_functions_deployed_at_once_are_told_in_the_stack_files_order(run, gateway):
    names = write_stack()
    status, out, _ = run("deploy", "--parallel", "8", "--json")
    assert status == 0 and [deployed["name"] for deployed in json.loads(out)] == names
    assert sorted(call.json["service"] for call in gateway.changes()) == sorted(names)


def test_one_that_is_refused_stops_no_other_and_each_has_a_line(run, gateway):
    names = write_stack()
    gateway.answer("PUT /system/functions", 400, b"image x was not built here")
    gateway.answer("PUT /system/functions", 202)
    status, out, err = run("deploy", "--parallel", "2")
    *lines, summary = out.splitlines()
    assert status == 1 and [line.split()[0] for line in lines] == names
    assert summary == f"{MANY} functions: {MANY - 1} deployed, 1 failed."
    (failed,) = [line for line in lines if line.split()[1] == "failed"]
    assert "image x was not built here" in failed and err.count("image x was not built here") == 1


def test_a_gateway_that_refuses_the_password_is_told_once_and_asked_no_further(run, gateway):
    write_stack()
    gateway.answer("PUT /system/functions", 401)
    status, out, err = run("deploy", "--parallel", "2")
    assert status == 1 and err.count("rescoldo login") == 1
    assert len(gateway.changes()) < MANY and "not tried" in out


def test_many_are_removed_side_by_side_with_a_line_each(run, gateway):
    names = write_stack()
    gateway.answer("DELETE /system/functions", 404)
    gateway.answer("DELETE /system/functions", 500, b"broken")
    gateway.answer("DELETE /system/functions", 202)
    gateway.together = 8  # no removal is answered before so many have come
    status, out, err = run("remove", "--all", "--parallel", "8")
    *lines, summary = out.splitlines()
    assert status == 1 and [line.split()[0] for line in lines] == names
    assert summary == f"{MANY} functions: {MANY - 2} removed, 2 failed."
    assert err.count("is not deployed") == 1
    assert not gateway.waited_in_vain
    assert sorted(call.json["functionName"] for call in gateway.changes()) == sorted(names)


def test_a_number_at_once_that_is_not_allowed_names_the_range(run, gateway):
    write_stack()
    status, _, err = run("up", "--parallel", "0")
    assert status == 2 and "--parallel" in err and "1<=x<=32" in err
    assert gateway.calls == []
