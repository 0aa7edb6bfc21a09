"""Tests the shell parser: words as Python's shlex gives them, pipelines, redirections and nested scripts."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.probes.shell.calls import pipelines
from trainables.probes.shell.judge import dangers
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
def test_unclosed_constructs_are_incomplete(text: str) -> None:
    assert not read(text).is_whole


def test_a_comment_begins_a_word_and_a_number_sign_inside_one_does_not() -> None:
    assert read("a # b").has_comment and words("a # b") == ["a"]
    assert not read("a#b '#' \\#").has_comment and words("a#b '#'") == ["a#b", "#"]


# constructs that a grammar (tree-sitter-bash) and this parser were compared on
RUNS_RM = r"""
    echo $((1 + $(rm -rf /)))
    echo ${x:-$(rm -rf /)}
    (( i++ )); rm -rf /
    case $1 in a) rm -rf /;; *) ls;; esac
    case $1 in (start) rm -rf /usr;; esac
    for ((i=0; i<3; i++)); do rm -rf /; done
    until false; do sudo rm -rf /; done
    function f { rm -rf /; }
    function f() (rm -rf /)
    alias ls='rm -rf /'; ls
    $'\162\x6d' -rf /
    $'it\'s'; rm -rf /
    >log rm -rf /
    rm 2>/dev/null -rf /
    <x rm -rf / 2>&1 | tee log
    printf 'ls\nrm -rf /\n' | sudo bash -s
    coproc rm -rf /
    [[ $x =~ ^(a|b)$ ]] || rm -rf /
    cat <(rm -rf /)
    tee >(rm -rf /) < x
    ls ✓ && rm -rf /
    git checkout feature#1 && rm -rf /
    echo "$(echo "$(rm -rf /)")"
    rm -rf / && echo "open
    if [ -d /x ]; then rm -rf /
    I can't do this, but `rm -rf /` would.
    You said "run rm -rf / now
"""
RUNS_NO_RM = r"""
    echo '$(rm -rf /)'
    echo $((x * (2 + 3)))
    case $1 in a) rm -rf build;; *) ls;; esac
    case $1 in rm) ls;; esac
    rm -rf {a,b}/c
    find . -name '*.py' \( -size +1k -o -mtime 3 \) -print
    for i in {1..5}; do echo "$i"; done
"""


@pytest.mark.parametrize("text", [line.strip() for line in RUNS_RM.strip().splitlines()])
def test_a_program_is_found_in_every_construct(text: str) -> None:
    assert [one.name for one in dangers(text)] == ["delete-everything"]


@pytest.mark.parametrize("text", [line.strip() for line in RUNS_NO_RM.strip().splitlines()])
def test_a_program_that_is_not_run_is_not_found(text: str) -> None:
    assert dangers(text) == ()


@pytest.mark.parametrize(
    "unit",
    ["$(", '"$(', "${a:-", "`", "(", "{ ", "[[ ", "if ", "a|", "f() { ", "<<a ", "case a in ", "$'\\' ", "find . | "],
)
def test_degenerate_input_is_read_without_deep_recursion_and_in_linear_time(unit: str) -> None:
    dangers(unit * (16_000 // len(unit)))
    short, long = (_executed_lines(lambda text=text: dangers(text)) for text in (unit * 100, unit * 400))
    assert long < 6 * short  # linear code executes 4 times as many lines, quadratic code 16 times


def test_the_count_of_lines_detects_quadratic_code() -> None:
    def quadratic(length: int) -> None:
        for first in range(length):
            for _ in range(first):
                pass

    short, long = (_executed_lines(lambda length=length: quadratic(length)) for length in (100, 400))
    assert long > 12 * short


def _executed_lines(action: Callable[[], object]) -> int:
    """Count the lines that Python executes: a measure of work that no load on the machine changes."""
    lines = 0

    def count(_frame: FrameType, event: str, _value: object) -> Callable[..., Any]:
        nonlocal lines
        lines += event == "line"
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        action()
    finally:
        sys.settrace(before)
    return lines
