"""Tests strict YAML: values that PyYAML reads in a surprising way are errors with file and line."""

from __future__ import annotations

import copy
import json
import time
from pathlib import Path

import pytest
import yaml

from trainables.errors import UserError
from trainables.io.strict_yaml import MAXIMUM_BYTES, MAXIMUM_DEPTH, MAXIMUM_VALUES, parse_yaml, read_yaml

FILE = Path("config.yaml")
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{one}: &a{one} [{', '.join([f'*a{one - 1}'] * 10)}]\n" for one in range(1, 10)
)


def test_a_plain_file_reads_as_pyyaml_reads_it():
    text = "a: 1\nb: [1.5, yes, null, 'x y']\nc:\n  d: {e: text}\n  f: |\n    two\n    lines\ng: '1e-4'\n"
    assert parse_yaml(text, FILE).values == yaml.safe_load(text)


def test_an_alias_within_measure_is_read_and_every_key_has_its_line():
    document = parse_yaml("one: &names [q, v]\ntwo: *names\ndatasets:\n  - path: x\n    type: y\n", FILE)
    assert document.values["two"] == ["q", "v"]
    assert document.where("datasets", 0, "type") == "config.yaml:5: `datasets[0].type`"
    assert document.where("two") == "config.yaml:2: `two`"
    assert document.where("datasets", 0, "absent") == "config.yaml:4: `datasets[0].absent`"
    assert document.where("absent") == "config.yaml: `absent`"
    listed = parse_yaml("one: &names [q, v]\nlists:\n  - *names\n  - *names\n", FILE)
    assert listed.values["lists"] == [["q", "v"]] * 2
    assert listed.where("lists", 1) == "config.yaml:4: `lists[1]`"


@pytest.mark.parametrize(
    ("text", "expected", "hint"),
    [
        ("a: 1\nrate: 08\n", "config.yaml:2: `rate` must be a number or a text, but `08` could be either", "quote a"),
        ("a:\n  - 1e999\n", "config.yaml:2: `a[0]` must be a finite number, but got `1e999`", "quote it"),
        ("a: {b: 1, b: 2}\n", "config.yaml:1: `a.b` must occur once, but it is also on line 1", "use the last"),
        ("a: 1\nb: 2\na: 1\n", "config.yaml:3: `a` must occur once, but it is also on line 1", "remove one"),
        ("a:\n\tb: 1\n", "config.yaml:2: must be indented with spaces, but there is a tab: `b`", "by spaces"),
        ("a: 010\n", "config.yaml:1: `a` must be a plain number, but YAML 1.1 reads `010` as 8", "quote it"),
        ("a: 1:30\n", "reads `1:30` as 90", "quote it"),
        ("a: .nan\n", "must be a finite number, but got `.nan`", "quote it"),
        ("on: 1\n", "a key must be a text, but got 'on'", '"on"'),
        ("a: 2026-01-01\n", "YAML reads a value of type `timestamp`", "quote it"),
        ("a: !!python/object/apply:os.system [ls]\n", "type `python/object/apply:os.system`", None),
        ("a: !!python/name:os.system\n", "type `python/name:os.system`", None),
        ("a: !!int x\n", "config.yaml:1: `a` must be of type int, but got `x`", "quote it"),
        ("<<: {a: 1}\n", "config.yaml:1: `<<` is not supported", "write out the merged keys"),
        ("a: 1\n---\nb: 2\n", "config.yaml:2: must be YAML, but found another document", "document per file"),
        ("a: [1\n", "config.yaml:2: must be YAML", "close every quote and bracket"),
        ("a: &x [*x]\n", "config.yaml:1: `a[0]` must not contain itself", "replace the alias"),
        (
            "a: &x\n  b: 1\n  c:\n    - *x\n",
            "config.yaml:4: `a.c[0]` must not contain itself",
            "replace the alias",
        ),
        (
            BOMB,
            f"config.yaml:4: `a3[7]` must expand to at most {MAXIMUM_VALUES:,} values",
            "replace the alias",
        ),
        (
            "".join(BOMB.splitlines(keepends=True)[:3]) + f"b:\n  c: 1\n  d:\n    - [{', '.join(['*a2'] * 10)}]\n",
            f"config.yaml:7: `b.d[0][7]` must expand to at most {MAXIMUM_VALUES:,} values",
            "replace the alias",
        ),
        ("a: [" + "1, " * MAXIMUM_VALUES + "1]", f"must hold at most {MAXIMUM_VALUES:,} values", "a data file"),
        ("a: " + "[" * 10**5, f"config.yaml:1: values must nest at most {MAXIMUM_DEPTH} levels", "unclosed bracket"),
        ("", "there are none", "key: value"),
        ("- a\n- b\n", "there are none", "key: value"),
        ("a: \x00\n", "config.yaml: must be YAML", "plain text"),
        ("a: " + "1" * 5000, "config.yaml:1: `a` must be of type int", None),
    ],
)
def test_surprising_yaml_is_an_error(text, expected, hint):
    began = time.monotonic()
    with pytest.raises(UserError) as caught:
        parse_yaml(text, FILE)
    assert expected in caught.value.message
    assert len(caught.value.message) < 400
    assert hint is None or hint in str(caught.value.hint)
    assert time.monotonic() - began < 5


def test_an_exponent_needs_neither_a_point_nor_a_sign():
    for text, value in (("1e-4", 1e-4), ("2E5", 2e5), ("-3e+2", -300.0), (".5e3", 500.0), ("1.5e3", 1500.0)):
        read = parse_yaml(f"a: {text}\n", FILE).values["a"]
        assert (read, read.written, copy.deepcopy(read).written) == (value, text, text)
        assert json.loads(json.dumps(read)) == value
        assert yaml.safe_load(f"a: {text}\n")["a"] == text  # what YAML 1.1 reads: the reason for this rule
    for text in ("'1e-4'", '"2E5"', "1e", "e5", "v1e5", "1e-4x", "0x1e4z"):
        assert isinstance(parse_yaml(f"a: {text}\n", FILE).values["a"], str)


def test_a_missing_or_unreadable_file_is_an_error(tmp_path):
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xe9\n")
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAXIMUM_BYTES + 1))
    for name, output in (("none.yaml", "readable file"), (".", "readable file"), ("large.yaml", "at most 1,048,576"),
                       ("latin.yaml", "latin.yaml:2: must be UTF-8")):  # fmt: skip
        with pytest.raises(UserError, match=output) as caught:
            read_yaml(tmp_path / name)
        assert caught.value.hint
    (tmp_path / "marked.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read_yaml(tmp_path / "marked.yaml").values == {"a": 1}
