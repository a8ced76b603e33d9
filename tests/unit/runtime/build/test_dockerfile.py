import dockerfile as go
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.build.dockerfile import (
    INSTRUCTIONS,
    MAX_INSTRUCTIONS,
    Dockerfile,
    Instruction,
    read_dockerfile,
    read_trigger,
)
from runtime.errors import BuildError

Found = tuple[str, str | None, int, tuple[str, ...], tuple[str, ...], tuple[str, ...]]


def ours(text: str) -> list[Found] | None:
    try:
        found = read_dockerfile(text.encode()).instructions
    except BuildError:
        return None
    return [
        (
            i.name,
            i.trigger.name if i.trigger else None,
            i.line,
            i.flags,
            (i.trigger or i).args,
            tuple(heredoc.data for heredoc in i.heredocs),
        )
        for i in found
    ]


def theirs(text: str) -> list[Found] | None:
    """What the Go parser finds; it knows no instruction and no bad trigger, so these are ours."""
    try:
        found = [command for command in go.parse_string(text) if command.cmd]
    except go.GoParseError:
        return None
    triggers = {
        c.sub_cmd.upper() if c.sub_cmd else "" for c in found if c.cmd.upper() == "ONBUILD"
    }
    if {c.cmd.upper() for c in found} - INSTRUCTIONS or triggers - TRIGGERS:
        return None
    return [
        (
            c.cmd.upper(),
            c.sub_cmd.upper() if c.sub_cmd else None,
            c.start_line,
            c.flags,
            c.value,
            tuple(h.content for h in c.heredocs),
        )
        for c in found
    ]


@pytest.mark.parametrize(
    "text",
    [
        "FROM a\nRUN echo <<EOF\nhi\nEOF\n",
        "FROM a\nRUN <<A cat <<-'B'\nx\nA\n\ty\n\tB\nCMD [\"a\"]",
        "\ufeffFROM a\r\nCOPY <<E /x\r\nh\r\nE\r\n",
        "# escape=`\n# syntax=x\nFROM a\nRUN a `\n # c\n\n b\nCOPY c:\\ d:\\\n",
        "# comment\n# escape=`\nFROM a\nRUN a \\\n b",
        "#\n\nfrom a as b\n  run --x=1 --y='2 3' echo\\\n  # between\n  more\n",
        "FROM a\nENV A B C\nENV a='x y' b=2 c=\\ d\nLABEL e\n",
        'FROM a\nCMD ["a", "b"]\nCMD ["a", 1]\n',
        'FROM a\nRUN ["a", "<<EOF"]\nRUN [not json <<EOF\nx\nEOF\n',
        "FROM a\nONBUILD RUN echo hi\nONBUILD copy --from=x a b",
        "FROM a\nHEALTHCHECK --interval=1s CMD curl x\nHEALTHCHECK NONE\nVOLUME a b\nUSER a b\n",
        "FROM a\nRUN a \\\\\nRUN b",
        "FROM a\nRUN cat <<''\n\nRUN <<\nRUN 3<<X\nX\n",
        "\\\nFROM a",
        "FROM a\nCOPY <<EOF /x\nno end",
        "# escape=x\nFROM a",
        "# escape=`\n# escape=`\nFROM a",
        "FROM a\nRUN x" + "y" * 65530,
        "FROM a\nRUN x" + "y" * 65531,
        "",
        "# nothing\n",
    ],
)
def test_the_go_parser_finds_the_same(text: str) -> None:
    assert ours(text) == theirs(text)


WORDS = ["# ", "# escape=`", "#syntax=a", "run", "FROM a", "ONBUILD RUN", "<<E", "<<-E", "<<'E'"]
MARKS = ["E", "a", "b=c", "'", '"', "[", '["a","b"]', "]", "--x=y", "--", "$A", "=", "é", "`"]
BLANKS = [" ", "\t", "\n", "\n", "\r\n", "\\\n", "\\", "`\n", "\nE\n"]
PIECES = st.sampled_from([*sorted(INSTRUCTIONS), *WORDS, *MARKS, *BLANKS])
TRIGGERS = INSTRUCTIONS - {"FROM", "MAINTAINER", "ONBUILD"}


@given(st.lists(PIECES, max_size=20).map("".join))
def test_the_go_parser_finds_the_same_in_any_pieces(pieces: str) -> None:
    text = f"FROM a\n{pieces}"
    found = theirs(text)
    if any("ONBUILD" in line.upper() and "<<" in line for line in text.split("\n")):
        return  # the Go package does not show the here-documents of ONBUILD
    assert ours(text) == found


def read_or_error(text: bytes) -> Dockerfile | BuildError:
    try:
        return read_dockerfile(text, name="F")
    except BuildError as error:
        return error


@given(st.binary() | st.lists(PIECES).map(lambda pieces: "".join(pieces).encode()))
def test_any_bytes_are_a_file_or_an_error_with_a_line(text: bytes) -> None:
    found = read_or_error(text)
    if isinstance(found, BuildError):
        assert found.line is not None
        assert found.message.startswith(f"F:{found.line}: ")
        assert str(found).isprintable()
        return
    assert found.instructions
    for instruction in found.instructions:
        "".join((instruction.text, *instruction.args)).encode()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"FROM a\n\nFOO b\n", "F:3: FOO is no instruction"),
        (b"FROM a\nRUN a\0b\n", "F:2: the line has a NUL byte"),
        (b"FROM a\nRUN \xff\n", "F:2: RUN is not valid UTF-8"),
        (b"FROM a\nCOPY <<E /x\n\xff\nE\n", "F:2: COPY is not valid UTF-8"),
        (b'FROM a\nCMD ["\\u0000"]\n', "F:2: CMD has a NUL"),
        (b'FROM a\nCMD ["\\ud800"]\n', "F:2: CMD is not valid UTF-8"),
        (b"FROM a\nCMD " + b"[" * 60_000, "F:2: CMD: the JSON is nested too deeply"),
        (b"FROM a\nRUN <<E\nx\n", "F:2: RUN: the here-document 'E' does not end"),
        (b"FROM a\nONBUILD FROM b\n", "F:2: ONBUILD FROM is not allowed"),
        (b"FROM a\nONBUILD ONBUILD RUN b\n", "F:2: ONBUILD ONBUILD is not allowed"),
        (b"FROM a\n" + b"ONBUILD " * 8000 + b"RUN b\n", "F:2: ONBUILD ONBUILD is not allowed"),
        (b"FROM a\nONBUILD FOO\n", "F:2: FOO is no instruction"),
        (b"FROM a\nONBUILD", "F:2: ONBUILD needs an instruction"),
        (b"FROM a\nENV A\n", "F:2: ENV: ENV must have two arguments"),
        (b"# escape=x\nFROM a\n", "F:1: 'x' is no escape character"),
        (b"# escape=" + b"x" * 60_000, "F:1: 'xxx"),
        (b"USER a\n" * (MAX_INSTRUCTIONS + 1), "F:1001: there are more than 1000"),
        (b"# \xff only in a comment\n", "F:1: there is no instruction"),
    ],
)
def test_what_is_refused_is_named_with_its_line(text: bytes, sentence: str) -> None:
    with pytest.raises(BuildError) as caught:
        read_dockerfile(text, name="F")
    assert caught.value.message.startswith(sentence)
    assert len(caught.value.message) < 400


def test_a_here_document_belongs_to_the_trigger_and_comes_back() -> None:
    text = b"FROM a\nONBUILD COPY <<-E /x\n\thi\n\tE\nRUN b\n"
    onbuild, run = read_dockerfile(text).instructions[1:]
    assert (run.name, run.line) == ("RUN", 5)
    assert onbuild.trigger is not None
    again = read_trigger(onbuild.trigger.source, file="F", line=9)
    assert again.line == 9
    assert again.args == ("<<-E", "/x")
    assert again.heredocs == onbuild.trigger.heredocs
    assert again.heredocs[0].chomped == "hi\n"


@pytest.mark.parametrize("text", ["RUN a\nRUN b", "", "FROM x", "RUN a\0b", "RUN <<E", "nonsense"])
def test_a_trigger_of_a_base_image_is_one_instruction(text: str) -> None:
    with pytest.raises(BuildError) as caught:
        read_trigger(text, file="F", line=3)
    assert caught.value.message.startswith("F:3: ")


def test_quoted_names_keep_variables_as_they_are() -> None:
    read: Instruction = read_dockerfile(b"FROM a\nCOPY <<A <<'B' /\nA\nB\n").instructions[1]
    assert [heredoc.expand for heredoc in read.heredocs] == [True, False]


def test_directives_and_empty_continuations_are_told() -> None:
    read = read_dockerfile(b"# syntax=foo\nFROM a\nRUN b \\\n\n c\n", name="F")
    assert [warning.partition(" ")[0] for warning in read.warnings] == ["F:1:", "F:3:"]
