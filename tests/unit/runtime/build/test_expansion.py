import pytest
from e2b_dockerfile_utils import ShellLex
from hypothesis import given
from hypothesis import strategies as st

from runtime.build.expansion import (
    MAX_VALUE_CHARACTERS,
    Allowance,
    ExpansionError,
    expand_word,
    expand_words,
)

VARIABLES = {"V": "foobarbaz", "A": "abab", "E": "", "S": "x  y", "P": "/usr/b*in?"}


@pytest.mark.parametrize(
    ("word", "expanded"),
    [
        ("$V/${V}_x$", "foobarbaz/foobarbaz_x$"),
        ("$U-${U}", "-"),
        ("${U:-a b}${E:-c}${E-d}${U-e}", "a bce"),
        ("${V:+a}${E:+b}${E+c}${U+d}", "ac"),
        ("${U:-${V:+$A}}", "abab"),
        ("${V:?bad}", "foobarbaz"),
        # the examples of the Dockerfile reference
        ("${V#f*b}", "arbaz"),
        ("${V##f*b}", "az"),
        ("${V%b*}", "foobar"),
        ("${V%%b*}", "foo"),
        ("${V/ba/fo}", "fooforbaz"),
        ("${V//ba/fo}", "fooforfoz"),
        (r"\$V \${V} a\ b", "$V ${V} a b"),
        (r"${P#*\*}${P%\?}", "in?/usr/b*in"),
        (r"${P//\//-}", "-usr-b*in?"),
        ("'$V'\"$V\"'\"'", '$Vfoobarbaz"'),
        (r'"a\b\"\$\\"', r"a\b" + '"$\\'),
        ("${A//ab}", None),
        ("${A//*/x}${E//*/x}", "xx"),
        ("${U:?is missing}", None),
        ("${V", None),
        ("${}", None),
        ("${V:#a}", None),
        ("${V^^}", None),
        ("'a", None),
        ('"a', None),
        (r"${V#\a}", None),
    ],
)
def test_forms(word: str, expanded: str | None) -> None:
    if expanded is None:
        with pytest.raises(ExpansionError):
            expand_word(word, VARIABLES)
    else:
        assert expand_word(word, VARIABLES) == expanded


def test_the_message_of_a_question_mark_is_told() -> None:
    with pytest.raises(ExpansionError, match="U: is missing"):
        expand_word("${U:?is missing}", VARIABLES)


def test_blanks_of_variables_split_and_quoted_ones_do_not() -> None:
    assert expand_words("a $S\"$S\" '' \\ b", VARIABLES) == ("a", "x", "yx  y", " b")


def test_another_escape_character() -> None:
    assert expand_word("`$V\\n", VARIABLES, escape="`") == "$V\\n"


VALUES = ["$A", "$E", "${S}", "${P", "${A", "${U", "$U", "}"]
MARKS = [":", "-", "+", "?", "#", "%", "/", "//", "*", "'", '"', "\\", "\\*", "$", "<"]
PIECES = st.sampled_from([*VALUES, *MARKS, " ", "a", "b", "ab", "é"])


@given(
    word=st.lists(PIECES, max_size=12).map("".join),
    escape=st.sampled_from("\\`"),
    quotes=st.booleans(),
)
def test_the_port_of_buildkits_lexer_says_the_same(word: str, escape: str, quotes: bool) -> None:  # noqa: FBT001
    """But for empty matches right after another and empty words: Go has none of them."""
    if "//*" in word or "<<" in word:
        return
    lexer = ShellLex(escape, env=VARIABLES, skip_unset_env=False, skip_process_quotes=not quotes)
    try:
        expected = lexer.process_word(word)
        words = tuple(filter(None, lexer.process_words(word)))
    except ValueError:
        with pytest.raises(ExpansionError):
            expand_word(word, VARIABLES, escape=escape, quotes=quotes)
        return
    assert expand_word(word, VARIABLES, escape=escape, quotes=quotes) == expected
    if quotes:
        assert expand_words(word, VARIABLES, escape=escape) == words


@pytest.mark.parametrize(
    "word",
    [
        "$B$B",
        "${B//a/xx}",
        "${U:-" * 40 + "}" * 40,
        "a" * (MAX_VALUE_CHARACTERS + 1),
        "${E+$B}" * 2000,
        "${B#" + "*a" * 2100 + "}",
    ],
)
def test_what_grows_is_refused(word: str) -> None:
    with pytest.raises(ExpansionError):
        expand_word(word, {"B": "a" * MAX_VALUE_CHARACTERS, "E": ""}, allowance=Allowance(1 << 24))


def test_patterns_that_would_backtrack_take_one_pass() -> None:
    value = "a" * 20_000
    assert expand_word("${V//" + "a*" * 60 + "b/x}", {"V": value}) == value
    assert expand_word("${V%%" + "a*" * 60 + "b}", {"V": value}) == value
