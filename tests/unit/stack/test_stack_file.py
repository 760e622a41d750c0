from pathlib import Path

import pytest

from rescoldo.model.errors import InvalidInput
from rescoldo.stack.document import MAX_BYTES, MAX_DEPTH
from rescoldo.stack.file import parse_stack, read_stack
from rescoldo.stack.select import select
from rescoldo.stack.source import Source

HEAD = "version: 1.0\nprovider:\n  name: openfaas\n  gateway: http://127.0.0.1:8080/\n"


def stack(text: str, folder: Path = Path(), **environment: str):
    return parse_stack(Source("stack.yaml", text, folder), environment)


def problem(text: str, folder: Path = Path(), **environment: str) -> str:
    with pytest.raises(InvalidInput) as caught:
        stack(text, folder, **environment)
    return caught.value.message


def function(lines: str) -> str:
    body = "".join(f"    {line}\n" for line in lines.splitlines())
    return f"{HEAD}functions:\n  hello:\n    lang: python3-http\n    handler: ./hello\n{body}"


def test_every_key_of_a_function_reaches_its_spec(tmp_path):
    (tmp_path / "hello").mkdir()
    (tmp_path / "a.yml").write_text("environment:\n  A: from-file\n  B: first\n")
    (tmp_path / "b.yml").write_text("environment: {B: second, C: 010}\n")
    text = function(
        """image: repo/hello:1.0
namespace: staging
fprocess: python index.py
environment: {A: inline, D: 1.10, E: true, F: ~}
environment_file: [a.yml, b.yml]
secrets: [token]
labels: {com.openfaas.scale.max: 4}
annotations:
  topic: cron-function
constraints: ["arch=amd64"]
limits: {memory: 40Mi, cpu: 100m}
requests: {memory: 20Mi}
readonly_root_filesystem: true"""
    )
    parsed = stack(text, tmp_path)
    assert (parsed.gateway, parsed.ignored) == ("http://127.0.0.1:8080", ())
    (hello,) = parsed.functions
    assert (hello.lang, hello.handler, hello.where) == ("python3-http", tmp_path / "hello", "stack.yaml:6")
    spec = hello.to_spec()
    assert spec.name == "hello" and spec.image == "repo/hello:1.0" and spec.namespace == "staging"
    assert spec.env_process == "python index.py" and spec.read_only_root_filesystem
    assert spec.env_vars == {"A": "from-file", "B": "second", "C": "010", "D": "1.10", "E": "true", "F": ""}
    assert spec.secrets == ("token",) and spec.constraints == ("arch=amd64",)
    assert spec.labels == {"com.openfaas.scale.max": "4"} and spec.annotations == {"topic": "cron-function"}
    assert spec.limits == {"memory": "40Mi", "cpu": "100m"} and spec.requests == {"memory": "20Mi"}


def test_the_default_image_is_the_name_with_the_tag_latest():
    assert stack(function("")).functions[0].to_spec().image == "hello:latest"


def test_the_default_namespace_is_used_if_none_is_given():
    assert stack(function("")).functions[0].to_spec().namespace == "openfaas-fn"


def test_variables_are_substituted_in_the_whole_file():
    text = function("image: ${REPO}/hello:${TAG:-latest}\nenvironment: {X: '${EMPTY}${NOT_SET:-}'}")
    hello = stack(text, REPO="me", EMPTY="").functions[0]
    assert hello.image == "me/hello:latest"
    assert hello.environment == {"X": ""}


def test_a_default_stands_in_for_an_empty_variable():
    assert stack(function("image: ${TAG:-a:1}"), TAG="").functions[0].image == "a:1"


def test_a_value_with_line_breaks_does_not_shift_the_line_of_a_later_error():
    text = function("environment: {A: '${BLOCK}'}\nlabls: {}")
    expected = text.splitlines().index("    labls: {}") + 1
    assert problem(text, BLOCK="1\n2\n3").startswith(f"stack.yaml:{expected}: ")


@pytest.mark.parametrize(
    "value",
    ["x #y", "# x", "a: b", "[a, b", "{a", "- a", "'q'", '"', "1\n two\n", "\\n", "null", "~", " x ", "*a", "!t", "%"],
)
def test_a_value_arrives_unchanged(value):
    text = function("environment:\n  A: ${V}\n  B: \"${V}\"\n  C: <${V}>\n  D: |\n    ${V}\nlabels: {L: ${V}, M: x}")
    hello = stack(text, V=value).functions[0]
    assert hello.environment == {"A": value, "B": value, "C": f"<{value}>", "D": f"{value}\n"}
    assert hello.labels == {"L": value, "M": "x"}


def test_lines_of_a_block_that_begin_with_a_hash_are_substituted():
    text = function("environment:\n  SCRIPT: |\n    #!/bin/sh\n    # for ${V}\n    #${W:-w}\n# ${not one}\nlabels: {}")
    assert stack(text, V="you").functions[0].environment == {"SCRIPT": "#!/bin/sh\n# for you\n#w\n"}


def test_an_empty_variable_counts_as_no_value():
    text = function("image: ${A}\nnamespace: ${A}${B}  # none\nenvironment: ${A}\nskip_build: ${A}")
    hello = stack(text, A="").functions[0]
    assert (hello.image, hello.namespace, hello.environment, hello.skip_build) == ("hello:latest", "", {}, False)


def test_quotes_around_a_default_are_removed():
    hello = stack(function("environment:\n  A: ${X:-\"a #b\"}\n  B: ${X:-'c'}\n  C: ${X:-\"d\"}/e")).functions[0]
    assert hello.environment == {"A": "a #b", "B": "c", "C": '"d"/e'}


@pytest.mark.parametrize(
    ("text", "values", "said"),
    [
        ("limits: ${LIMITS}", {"LIMITS": "{memory: 1}"}, "stack.yaml:9 (${LIMITS}): functions.hello.limits: expected"),
        ("secrets: ${S}", {"S": "[a, b]"}, "stack.yaml:9 (${S}): functions.hello.secrets: expected a list"),
        ("skip_build: ${B}", {"B": "maybe"}, "stack.yaml:9 (${B}): functions.hello.skip_build: 'maybe' is not allowed"),
        ("${KEY}: x", {"KEY": "odd"}, "stack.yaml:9 (${KEY}): functions.hello.odd: unknown key"),
        ("environment:\n${BLOCK}", {"BLOCK": "  A: 1"}, "the value of ${BLOCK} is one text"),
        ("image: *${A}", {"A": "x"}, "the value of ${A} is one text"),
        ("image: ${RAW}", {"RAW": "\udcff"}, "stack.yaml:9: the value of RAW is not UTF-8 text"),
    ],
)
def test_an_error_names_the_variable(text, values, said):
    message = problem(function(text), **values)
    assert said in message and message.startswith("stack.yaml:")


def test_a_later_error_names_the_variable_too():
    hello = stack(function("limits: {memory: '${MEM}'}"), MEM="lots").functions[0]
    assert hello.place_of("limits.memory: 'lots' is not a size") == "stack.yaml:9 (${MEM})"


def test_the_total_size_of_values_is_bounded():
    text = function("environment: {A: '" + "${BIG}" * 1100 + "'}")
    assert "with BIG the values of variables exceed" in problem(text, BIG="x" * 1000)


@pytest.mark.parametrize("form", ["${A:=x}", "${A", "${}", "${A:-${B}}", "${1A}", "${A^^}"])
def test_an_unsupported_substitution_is_an_error_with_its_line(form):
    for line in (f"functions: {form}\n", f"functions: {{a: {form}\n"):
        message = problem(HEAD + line)
        assert message.startswith("stack.yaml:5: ")
        assert "is not a supported substitution" in message and "${NAME:-default}" in message


def test_a_comment_may_contain_anything():
    assert stack("# ${{ matrix.x }}\n" + function("image: x # ${A:=y}\nlabels: {}")).functions


def test_an_unknown_key_gets_its_line_the_allowed_keys_and_a_suggestion():
    message = problem(function("enviroment: {A: b}"))
    assert message.startswith("stack.yaml:9: functions.hello.enviroment: unknown key")
    assert "did you mean 'environment'?" in message and "annotations" in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "stack.yaml:1: the file is empty"),
        ("functions: {}", "stack.yaml:1: provider is missing"),
        (
            "provider:\n  name: knative\n",
            "stack.yaml:2: provider.name: 'knative' is not allowed; use openfaas",
        ),
        ("provider: {}\n", "stack.yaml:1: provider: '' is not allowed"),
        ("provider: {name: openfaas, gateway: localhost}", "is not a URL"),
        ("version: 2\nprovider: {name: openfaas}", "stack.yaml:1: version: '2' is not allowed; use 1.0"),
        ("a: [1\nb: 2\n", "stack.yaml:2: not valid YAML"),
        ("a: 1\n---\nb: 2\n", "stack.yaml:2: not valid YAML"),
        ("- a\n", "stack.yaml:1: expected keys and values, found a list"),
        ("a: \x07", "not valid YAML"),
        (HEAD + "functions: [a]", "functions: expected keys and values, found a list"),
        (HEAD + "functions:\n  Bad_Name: {}\n", "stack.yaml:6: functions.Bad_Name: function name 'Bad_Name'"),
        (HEAD + "functions:\n  a: {lang: x}\n", "handler is missing; add for example `handler: ./a`"),
        (HEAD + "functions:\n  a: {handler: ./a}\n", "lang is missing; add for example `lang: python3-http`"),
        (HEAD + "functions:\n  a: {skip_build: true}\n", "skip_build needs `image:`"),
        (function("limits: {mem: 1}"), "did you mean 'memory'?"),
        (function("skip_build: maybe"), "use true or false"),
        (function("labels: {a: [1]}"), "labels.a: expected text, found a list"),
        (function("secrets: token"), "secrets: expected a list, found 'token'"),
        (function("namespace: A_B"), "functions.hello.namespace: namespace name"),
        (
            function("environment_file: [x.yml]"),
            "stack.yaml:9: functions.hello.environment_file[0]: the file",
        ),
        (function("lang: python3"), "is given twice, first in line 7"),
        (function("<<: 3"), "needs the alias of another mapping"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(text, expected):
    assert expected in problem(text)


def test_an_error_in_an_environment_file_names_that_file(tmp_path):
    (tmp_path / "a.yml").write_text("environment:\n  A: [1]\n")
    message = problem(function("environment_file: [a.yml]"), tmp_path)
    assert message.startswith(f"{tmp_path}/a.yml:2: environment.A: expected text")


def test_keys_for_container_builds_are_listed_as_ignored():
    text = function("build_args: {A: b}\nplatforms: linux/amd64")
    assert stack(text).ignored == ("stack.yaml:9: hello.build_args", "stack.yaml:10: hello.platforms")


def test_anchors_and_merge_keys_are_understood():
    text = function("environment: &e {A: 1, B: 2}") + (
        "  other:\n    lang: python3\n    handler: ./o\n    environment:\n      <<: *e\n      B: 3\n"
    )
    assert stack(text).functions[1].environment == {"A": "1", "B": "3"}


def test_a_mapping_that_merges_itself_is_refused():
    assert "needs the alias of another mapping" in problem(function("environment: &e {<<: *e}"))


def test_a_tripling_chain_of_merges_runs_out_of_budget():
    chain = "&m0 {X: 1}"
    for i in range(1, 17):  # 3 to the power of 16 values if all were written out
        chain = f"&m{i} {{<<: [{chain}, *m{i - 1}, *m{i - 1}]}}"
    assert "with all aliases written out" in problem(function(f"environment: {chain}"))


def test_nesting_up_to_the_limit_is_read_and_beyond_it_refused():
    assert "allowed are" in problem("a: " + "[" * (MAX_DEPTH - 1) + "]" * (MAX_DEPTH - 1))
    assert "stack.yaml:1: nested deeper than 40 levels" in problem("a: " + "[" * MAX_DEPTH + "]" * MAX_DEPTH)


def test_very_deep_nesting_is_refused_and_does_not_end_the_process():
    assert "stack.yaml:1: " in problem("a: " + "[" * 500_000)  # by this limit or by the library's own


def test_a_file_that_is_too_large_is_refused(tmp_path):
    file = tmp_path / "stack.yaml"
    file.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidInput, match="larger than the 1,048,576 bytes allowed"):
        read_stack(str(file))


def test_a_file_that_is_not_utf_8_is_refused_with_its_line(tmp_path):
    file = tmp_path / "stack.yaml"
    file.write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(InvalidInput, match=r"stack\.yaml:2: not UTF-8"):
        read_stack(str(file))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInput, match=r"none\.yaml: cannot be read: No such file"):
        read_stack(str(tmp_path / "none.yaml"))


def test_templates_and_copy_in_the_configuration_are_read(tmp_path):
    (tmp_path / "common").mkdir()
    text = function("") + ("configuration:\n  templates:\n    - {name: t, source: https://x/y}\n  copy: [./common]\n")
    parsed = stack(text, tmp_path)
    assert [(t.name, t.source) for t in parsed.templates] == [("t", "https://x/y")]
    assert parsed.copy == (tmp_path / "common",)


def _three():
    text = HEAD + "functions:\n"
    for name in ("api-a", "api-b", "web"):
        text += f"  {name}: {{lang: l, handler: h}}\n"
    return stack(text).functions


def test_a_filter_is_a_glob_and_a_regex_is_searched():
    assert [f.name for f in select(_three(), glob="api-*")] == ["api-a", "api-b"]
    assert [f.name for f in select(_three(), regex="b$")] == ["api-b", "web"]
    assert len(select(_three())) == 3


def test_functions_can_be_selected_by_name():
    assert [f.name for f in select(_three(), names=("web", "api-a"))] == ["api-a", "web"]


def test_an_unknown_name_is_refused_even_among_known_ones():
    with pytest.raises(InvalidInput, match="matches 'api', 'x'; the file has api-a, api-b, web"):
        select(_three(), names=("web", "api", "x"))


def test_a_filter_that_matches_nothing_names_the_functions_of_the_file():
    with pytest.raises(InvalidInput, match="the file has api-a, api-b, web"):
        select(_three(), glob="x*")


def test_filter_and_regex_exclude_each_other():
    with pytest.raises(InvalidInput, match="cannot be used together"):
        select(_three(), glob="a", regex="b")
    with pytest.raises(InvalidInput, match="cannot be used together"):
        select(_three(), names=("web",), glob="a")


def test_an_invalid_regex_is_refused():
    with pytest.raises(InvalidInput, match="not a regular expression"):
        select(_three(), regex="(")


def test_a_variable_that_is_not_utf8_is_refused_with_its_line():
    text = problem(function("environment:\n  A: ${NAME}"), NAME=b"caf\xe9".decode(errors="surrogateescape"))
    assert text.startswith("stack.yaml:10: the value of NAME is not UTF-8 text")
