"""Shell text is read into words as Python's own shlex reads it, and into pipelines, redirections and inner scripts."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.probes.shell.calls import pipelines
from trainables.probes.shell.parse import read


def words(text: str) -> list[str]:
    return [word.text for pipeline in read(text).pipelines for command in pipeline for word in command.words]


def lines(text: str) -> list[list[str]]:
    return [[call.line for call in pipeline] for pipeline in pipelines(text)]


@given(st.text(alphabet="ab -/.'\"\\\t", max_size=30))
@settings(max_examples=400, deadline=None)
def test_words_and_quotes_are_those_of_shlex(text: str) -> None:
    try:
        expected = shlex.split(text)
    except ValueError:  # no closing quotation, or no escaped character
        assert not read(text).is_whole or text.endswith("\\")
        return
    assert words(text) == expected and read(text).is_whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a | b; c && d || e & f", [["a", "b"], ["c"], ["d"], ["e"], ["f"]]),
        ("(a; b) | c", [["a", "b", "c"]]),
        ("{ a; b; } | c; d", [["a", "b", "c"], ["d"]]),
        ("x; (a) | c", [["x"], ["a", "c"]]),
        ("a |\nb", [["a", "b"]]),
        ("a 2>&1 >f <g", [["a > 1 > f"]]),
        ("a >> 'b c'", [["a >> b c"]]),
        ("sudo -u x env A=1 nice -n 3 a -b", [["a -b"]]),
        ("ls | xargs -n 1 -I{} rm {}", [["ls", "rm {}"]]),
        ("find . -exec a {} \\; -exec b {} +", [["find . -exec a {} ; -exec b {} +", "a {}", "b {}"]]),
        ("if a; then b; else c; fi", [["a"], ["b"], ["c"], ["fi"]]),
        ('echo "$(a | b)" `c`', [["echo $(a | b) `c`"], ["a", "b"], ["c"]]),
        ("echo '$(a)' \\`b\\`", [["echo $(a) `b`"]]),
        ("echo $((1 + 2)) ${a:-(b)}", [["echo $((1 + 2)) ${a:-(b)}"]]),
        ("sh -c 'a; b' x", [["sh -c a; b x"], ["a"], ["b"]]),
        ("sh <<EOF\na\nEOF\nb", [["sh"], ["a"], ["b"]]),
        ("cat <<'EOF' | b\na; c\nEOF", [["cat", "b"]]),
        ("diff <(a) <(b)", [["diff <(a) <(b)"], ["a"], ["b"]]),
    ],
)
def test_pipelines_of_calls(text: str, expected: list[list[str]]) -> None:
    assert sorted(lines(text)) == sorted(expected)


@pytest.mark.parametrize("text", ["'a", '"a', "$(a", "`a", "${a", "a <<E\nb", "a >", '"$(a"'])
def test_what_stays_open_is_not_whole(text: str) -> None:
    assert not read(text).is_whole


def test_a_comment_begins_a_word_and_a_number_sign_inside_one_does_not() -> None:
    assert read("a # b").has_comment and words("a # b") == ["a"]
    assert not read("a#b '#' \\#").has_comment and words("a#b '#'") == ["a#b", "#"]
