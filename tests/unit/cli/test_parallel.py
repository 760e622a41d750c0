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
    assert sorted(call.json["service"] for call in gateway.calls) == sorted(names)


def test_after_one_that_is_refused_no_others_are_begun(run, gateway):
    write_stack()
    gateway.answer("PUT /system/functions", 400, b"image x was not built here")
    status, out, err = run("deploy", "--parallel", "2")
    assert status == 1 and out == "" and "many-0: " in err and "image x was not built here" in err
    assert len(gateway.calls) < MANY


def test_a_number_at_once_that_is_not_allowed_names_the_range(run, gateway):
    write_stack()
    status, _, err = run("up", "--parallel", "0")
    assert status == 2 and "--parallel" in err and "1<=x<=32" in err
    assert gateway.calls == []
