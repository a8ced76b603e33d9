import warnings

import pytest
from e2b_dockerfile_utils import PatternMatcher
from hypothesis import given
from hypothesis import strategies as st

from runtime.build.globs import GlobError, path_glob, shell_glob
from runtime.build.ignore import exclusions, ignore_names, read_ignore
from runtime.errors import BuildError


@pytest.mark.parametrize(
    ("patterns", "path", "hidden"),
    [
        ("*.md", "a.md", True),
        ("*.md", "sub/a.md", False),
        ("**/*.md", "sub/a.md", True),
        ("**/*.md", "a.md", True),
        ("node_modules", "a/node_modules/x", False),
        ("**/node_modules", "a/node_modules/x", True),
        ("/foo", "foo", True),
        ("dir/", "dir/x", True),
        ("a/./b/../c", "a/c", True),
        ("*\n!README*", "README.md", False),
        ("dir\n!dir/keep", "dir/keep", False),
        ("dir\n!dir/keep\ndir/keep/not", "dir/keep/not", True),
        ("a?b[x-z]", "a1by", True),
        ("a[^b]", "ab", False),
        ("a?b", "a/b", False),
        ("a*", "a/b", True),
        ("**.py", "sub/a.py", True),
        ("../a", "a", False),
        ("#a", "#a", False),
        (r"\#a", "#a", True),
        ("  a  ", "a", True),
        ("", "a", False),
    ],
)
def test_which_paths_are_hidden(patterns: str, path: str, *, hidden: bool) -> None:
    assert read_ignore(patterns.encode()).hides(path) is hidden


def test_a_walker_learns_which_hidden_directories_it_must_enter() -> None:
    rules = read_ignore(b"\xef\xbb\xbf*\r\n!src/deep/**/keep\r\n")
    assert rules.hides("src")
    assert rules.may_show_below("src")
    assert rules.may_show_below("src/deep/any")
    assert not rules.may_show_below("other")
    assert not rules.hides("src/deep/any/keep")


@pytest.mark.parametrize("pattern", ["[a", "a\\", "!", "[]", "[b-a]", "[a-]", "x" * 5000])
def test_bad_patterns_are_named_with_their_line(pattern: str) -> None:
    with pytest.raises(BuildError) as caught:
        read_ignore(f"# one\n{pattern}\n".encode(), name="I")
    assert caught.value.message.startswith("I:2: bad pattern: ")
    with pytest.raises(BuildError):
        exclusions([pattern])


PATTERNS = st.lists(
    st.lists(
        st.sampled_from(["a", "b", "/", "**", "*", "!", "?", ".", "[ab]", "[^a]", "\\", "é"]),
        min_size=1,
        max_size=6,
    ).map("".join),
    min_size=1,
    max_size=4,
)
PATHS = st.lists(st.text("abé.", min_size=1, max_size=3), min_size=1, max_size=4).map("/".join)


@given(patterns=PATTERNS, path=PATHS)
def test_the_port_of_mobys_matcher_says_the_same(patterns: list[str], path: str) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", FutureWarning
            )  # from regular expressions that it makes
            oracle = PatternMatcher(patterns)
    except ValueError:
        with pytest.raises(BuildError):
            exclusions(patterns)
        return
    rules = exclusions(patterns)
    assert rules.hides(path) == oracle.matches(path)
    assert rules.may_show_below(path) == oracle.may_match_under(path)


@given(st.binary(max_size=200), PATHS)
def test_any_bytes_are_rules_or_a_build_error(text: bytes, path: str) -> None:
    try:
        rules = read_ignore(text)
    except BuildError:
        return
    assert isinstance(rules.hides(path), bool)


def test_hostile_patterns_and_deep_paths_take_one_pass() -> None:
    rules = read_ignore(("**/*a" * 200 + "b\n" + "*a" * 1000 + "b\n").encode())
    assert not rules.hides("a" * 4000)
    assert not rules.hides("/".join("a" * 500))


def test_which_files_hold_the_patterns() -> None:
    assert ignore_names("sub/My.Dockerfile") == ("sub/My.Dockerfile.dockerignore", ".dockerignore")


def test_globs_of_shells_and_paths_differ_in_the_slash() -> None:
    assert shell_glob("a*b").matches("a/b")
    assert not path_glob("a*b").matches("a/b")
    with pytest.raises(GlobError):
        shell_glob(r"\a")
