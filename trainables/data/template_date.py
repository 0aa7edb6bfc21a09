"""The date that a chat template shows, frozen for all trials of an experiment.

Templates such as those of Llama 3 and Mistral write today's date into the prompt, with transformers' `strftime_now`. A
trial that is resumed on another day would otherwise train and evaluate on other prompts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path

from jinja2 import Environment
from jinja2.exceptions import TemplateSyntaxError

from trainables.io.files import FileDamaged, read_json

FUNCTION = "strftime_now"  # the only function of the date that transformers gives to a template
FILES = ("chat_template.jinja", "additional_chat_templates/*.jinja")
SETTINGS = ("tokenizer_config.json", "chat_template.json", "processor_config.json")
FLAGS = "-_^#0"  # of glibc's strftime, between the per cent sign and the letter
LETTERS = "aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyYzZ"
MACRO = """{%- macro strftime_now(format) -%}
{%- set shown = DIRECTIVES -%}
{%- for plain in format.split("%%") -%}
{{- "" if loop.first else "%" -}}
{%- for part in plain.split("%") -%}
{%- set length = 0 if loop.first else 2 if part[:1] in FLAGS else 1 -%}
{{- shown.get(part[:length], "%" ~ part[:length]) if length else "" -}}{{- part[length:] -}}
{%- endfor -%}
{%- endfor -%}
{%- endmacro +%}"""


def shows_date(base: Path) -> bool:
    """Return True if a chat template of the base asks for the date."""
    return any(asks_for_date(template) for template in _templates(base))


def asks_for_date(template: str) -> bool:
    """Return True if a template uses transformers' function of the date, outside comments and texts."""
    try:
        tokens = list(Environment(autoescape=False).lex(template))  # noqa: S701 nothing is rendered
    except TemplateSyntaxError:
        return FUNCTION in template
    return any(kind == "name" and word == FUNCTION for _, kind, word in tokens)


@lru_cache(maxsize=8)
def dated(template: str, shown: date | None) -> str:
    """Return a template in which `strftime_now` gives the date `shown`; unchanged without a date.

    The template itself defines the function, because transformers passes only plain values to templates.
    """
    if shown is None or not asks_for_date(template):
        return template
    return MACRO.replace("DIRECTIVES", _directives(shown)).replace("FLAGS", json.dumps(list(FLAGS))) + template


def _directives(shown: date) -> str:
    """Return what each directive of `strftime` gives on a date, at midnight, as a literal of a template."""
    midnight = datetime(shown.year, shown.month, shown.day)
    known = [f"{flag}{letter}" for flag in ("", *FLAGS) for letter in LETTERS]
    return json.dumps({one: midnight.strftime(f"%{one}") for one in known}, ensure_ascii=False)


def _templates(base: Path) -> Iterator[str]:
    for pattern in FILES:
        for path in sorted(base.glob(pattern)):
            yield path.read_text(encoding="utf-8")
    for name in SETTINGS:
        path = base / name
        if path.is_file():
            yield from _templates_in(path)


def _templates_in(path: Path) -> Iterator[str]:
    try:
        values = read_json(path)
    except FileDamaged:  # the scan of the rows says what is wrong with it
        return
    found = values.get("chat_template") if isinstance(values, dict) else None
    named = found if isinstance(found, list) else [{"template": found}]
    for one in named:
        template = one.get("template") if isinstance(one, dict) else None
        if isinstance(template, str):
            yield template
