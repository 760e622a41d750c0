"""requirements.txt: read as pip reads it, checked, and reduced to the key of a layer."""

from pathlib import Path

import pytest

from rescoldo.bundle.requirements import MAX_LINES, Requirements, read_requirements, without_credentials
from rescoldo.model.errors import BuildFailed

HOST = "https://host/simple"


def read(tmp_path: Path, text: str, **environment: str) -> Requirements:
    file = tmp_path / "requirements.txt"
    file.write_text(text)
    return read_requirements(file, "hello/requirements.txt", environment)


def lines(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    return [(line.number, line.text) for line in read(tmp_path, text).lines]


def test_a_missing_file_has_no_requirements(tmp_path):
    assert read_requirements(tmp_path / "none.txt", "x").lines == ()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# two\na==1  # pinned\n\n  b\n", [(2, "a==1"), (4, "b")]),
        ("\ufeffa\r\nb\r\n", [(1, "a"), (2, "b")]),
        ("a==1 \\\n --hash=x:aa \\\n --hash=x:bb\nb", [(1, "a==1  --hash=x:aa  --hash=x:bb"), (4, "b")]),
        ("a \\\n# a comment ends it\nb\n", [(1, "a"), (3, "b")]),
        ("# a comment continues nothing \\\nb\n", [(2, "b")]),
        ("a \\", [(1, "a")]),
        ("a==1#egg\n", None),
        ("p @ https://host/a#egg=p\n", [(1, "p @ https://host/a#egg=p")]),
    ],
)
def test_lines_are_joined_and_stripped_of_comments_as_pip_does(tmp_path, text, found):
    if found is None:
        with pytest.raises(BuildFailed, match=r"hello/requirements\.txt:1: "):
            read(tmp_path, text)
    else:
        assert lines(tmp_path, text) == found


@pytest.mark.parametrize(
    "line",
    [
        "-r other.txt", "-rother.txt", "--requirement other.txt", "--requirement=other.txt", "-r=other.txt",
        "-r  other.txt", "-c c.txt", "-cc.txt", "--constraint=c.txt", "-r \\\n other.txt",
        "-e .", "-e.", "--editable=./here", "-e git+file:///x",
        "./here", "../x", "/abs", "~/x", ".", "here/there", "wheels/x-1.whl", "x-1-py3-none-any.whl", "x-1.tar.gz",
        "x.ZIP", "./here[extra]", "x-1.whl ; python_version > '3'",
        "p @ file:///x", "p@file:///x", "p @ FILE:///x", "file:///x", "file:x", "FILE:x", "git+file:///x", "p @ git+file:///x",
        "p @ ./x", "p @ /x",
        "-f ./wheels", "-f/wheels", "--find-links=wheels", "--find-links file:///x", "-i ../index", "--index-url=file:///x",
        "--pre -r other.txt",
    ],
)  # fmt: skip
def test_every_spelling_of_a_local_file_is_refused_with_its_line(tmp_path, line):
    with pytest.raises(BuildFailed, match=r"hello/requirements\.txt:2: .* points to a local file"):
        read(tmp_path, f"a\n{line}\n")


@pytest.mark.parametrize(
    "line",
    [
        "git+https://host/p.git@v1#egg=p", "p @ git+https://host/p.git", "p@git+ssh://git@host/p.git", "https://host/p-1.whl",
        "http://host/p-1.tar.gz", "a[x,y]>=1,<2 ; python_version > '3'", "a (>=1)", "-i https://host/simple",
        "--extra-index-url=https://host/simple", "-ihttps://host/simple", "-f https://host/wheels", "--pre",
        "--no-binary :all:", "--only-binary=a,b", "--no-index --find-links https://host/",
        "--trusted-host host", "a --hash=sha256:aa",
    ],
)  # fmt: skip
def test_a_remote_requirement_or_index_is_kept_unchanged(tmp_path, line):
    assert lines(tmp_path, f"{line}\n") == [(1, line)]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("-e git+https://host/p.git", "installs a working copy.*write `NAME @ 'git"),
        ("--requ=other.txt", "is not supported in a requirements.txt"),
        ("--target /etc", "is not supported"),
        ("a -r other.txt", "cannot follow a requirement"),
        ("a==", "is not a requirement"),
        ("two words", "is not a requirement"),
        ("-i", "needs a value"),
        ("a --hash='", "No closing quotation"),
        ("-i ${NOT_THERE}", "the variable NOT_THERE is not set"),
        ("a==\n", "is not a requirement"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(tmp_path, line, words):
    with pytest.raises(BuildFailed, match=rf"hello/requirements\.txt:3: .*{words}"):
        read(tmp_path, f"a\n# a comment\n{line}\n")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a==1\nb\n", "# two\na==1  # pinned\n\n  b\n"),
        ("a==1\nb\n", "b\na==1\n"),
        ("A_b.c>=1,<2\n", "a-b-c <2, >=1\n"),
        ("a[x,y]\n", "a[y, x]\n"),
        ("a==1 --hash=sha256:aa --hash=sha256:bb\n", "a==1 \\\n --hash=sha256:bb \\\n --hash sha256:aa\n"),
        ("-i https://me:old@host/simple\na\n", "--index-url https://me:new@host/simple\na\n"),
        ("p @ https://me:old@host/p.whl\n", "p @ https://host/p.whl\n"),
    ],
)
def test_equivalent_files_share_a_layer(tmp_path, one, other):
    assert read(tmp_path, one).key == read(tmp_path, other).key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a==1\n", "a==2\n"),
        ("a\n", "a\n-i https://host/simple\n"),
        ("a\n", "a[x]\n"),
        ("a\n", "a ; python_version > '3'\n"),
        ("a\n", "a\n--pre\n"),
        ("-i https://one/\n--extra-index-url https://two/\na\n", "-i https://two/\n--extra-index-url https://one/\na\n"),
    ],
)
def test_different_requirements_make_different_layers(tmp_path, one, other):
    assert read(tmp_path, one).key != read(tmp_path, other).key


def test_variables_come_from_the_environment_and_change_the_key_unless_they_are_credentials(tmp_path):
    text = "-i https://${USER}:${TOKEN}@host/${PLACE}\na==${VERSION}\n"
    values = {"USER": "me", "TOKEN": "s3cr3t-token", "PLACE": "simple", "VERSION": "1"}
    found = read(tmp_path, text, **values)
    assert found.text == "-i https://me:s3cr3t-token@host/simple\na==1\n"
    assert found.public == ""  # the file contains no credentials
    assert found.hide("of https://me:s3cr3t-token@host/ and s3cr3t-token") == "of https://****@host/ and ****"
    assert read(tmp_path, text, **{**values, "TOKEN": "another"}).key == found.key
    for name in ("PLACE", "VERSION"):
        assert read(tmp_path, text, **{**values, name: "2"}).key != found.key
    with pytest.raises(BuildFailed, match="points to a local file"):
        read(tmp_path, "-i ${PLACE}\n", PLACE="../index")


@pytest.mark.parametrize(
    ("text", "public"),
    [
        ("-i https://me:token@host/simple\na # x\n", "-i https://host/simple\na # x\n"),
        ("p @ https://token@host/p.whl\n", "p @ https://host/p.whl\n"),
        ("p @ git+https://token@host/p.git\n", "p @ git+https://host/p.git\n"),
        ("# -i https://me:old@host/simple\na\n", "# -i https://host/simple\na\n"),
        ("p @ git+ssh://git@host/p.git\n", ""),
        ("p @ git+ssh://git:token@host/p.git\n", "p @ git+ssh://host/p.git\n"),
        ("-i https://host/simple\na@https://host/x@y\n", ""),
    ],
)
def test_removing_credentials_changes_nothing_else_in_the_file(tmp_path, text, public):
    assert read(tmp_path, text).public == public


@pytest.mark.parametrize("line", ["-e git+https://me:token@host/p", "p @ file://me:token@host/x", "--x=https://me:token@host"])
def test_no_message_contains_credentials(tmp_path, line):
    with pytest.raises(BuildFailed) as caught:
        read(tmp_path, line)
    assert "token" not in caught.value.message and "host" in caught.value.message


def test_the_files_size_lines_and_encoding_are_checked(tmp_path):
    with pytest.raises(BuildFailed, match="more than 10,000 lines"):
        read(tmp_path, "a\n" * (MAX_LINES + 1))
    with pytest.raises(BuildFailed, match="larger than 1,048,576 bytes"):
        read(tmp_path, "#" * 2**21)
    (tmp_path / "requirements.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(BuildFailed, match=r"x:2: not UTF-8"):
        read_requirements(tmp_path / "requirements.txt", "x")


def test_urls_in_quotes_and_lists_lose_their_credentials_too():
    text = '{"url": "https://me:t@host/a", "other": \'ftp://u:p@x\'}'
    assert without_credentials(text) == '{"url": "https://host/a", "other": \'ftp://x\'}'
