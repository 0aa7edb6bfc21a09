"""Tests that a chat template shows the frozen date, exactly as transformers would on that day."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trainables.data.rows import Message
from trainables.data.template_date import asks_for_date, dated, shows_date

if TYPE_CHECKING:
    from trainables.engine import Engine

DAY, NEXT = date(2024, 2, 9), date(2024, 2, 10)
LLAMA = (
    "{%- if not date_string is defined %}{%- if strftime_now is defined %}"
    '{%- set date_string = strftime_now("%d %b %Y") %}{%- else %}{%- set date_string = "26 Jul 2024" %}'
    "{%- endif %}{%- endif %}Today Date: {{ date_string }}\n"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
)
PLAIN = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
CALLED_DEEP = (
    "\n  {% macro head() %}{{ strftime_now('%Y-%m-%d') }}{% endmacro %}{% set form = 'on ' ~ '%A' %}\n"
    "{% for m in messages %}{% if loop.first %}{{ head() }} {{ strftime_now(form) }}{% endif %}{{ m.content }}"
    "{% endfor %}\n"
)


def rendered(template: str) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    return render_jinja_template([[{"role": "user", "content": "Hi."}]], chat_template=template)[0][0]


@pytest.fixture
def on_that_day(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Render as transformers does, with the clock of its module at the frozen day."""
    import transformers.utils.chat_template_utils as utils

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime(DAY.year, DAY.month, DAY.day)

    def render(template: str) -> str:
        with monkeypatch.context() as patched:
            patched.setattr(utils, "datetime", Clock)
            return rendered(template)

    return render


FORMATS = ("%d %b %Y", "%Y-%m-%d", "%B %-d, %Y", "%% %%d 100%%", "%H:%M %j %c|%x|%X|%p", "%^a %_d %e", "no date", "",
           "%", "%q", "%A的%B")  # fmt: skip


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_what_transformers_gives_on_that_day(form: str, on_that_day: Callable[[str], str]) -> None:
    template = f"\n  A{{{{ strftime_now({json.dumps(form)}) }}}}B\n"
    assert rendered(dated(template, DAY)) == on_that_day(template)


@pytest.mark.parametrize("template", [LLAMA, CALLED_DEEP])
def test_templates_show_the_frozen_day(template: str, on_that_day: Callable[[str], str]) -> None:
    assert rendered(dated(template, DAY)) == on_that_day(template)
    assert rendered(dated(template, NEXT)) != on_that_day(template)


def test_a_template_without_a_date_is_left_alone() -> None:
    assert dated(PLAIN, DAY) == PLAIN
    assert dated(LLAMA, None) == LLAMA


@pytest.mark.parametrize(
    ("template", "asks"),
    [
        (LLAMA, True),
        (CALLED_DEEP, True),
        (PLAIN, False),
        ("{# strftime_now #}x", False),
        ("{{ 'strftime_now' }} strftime_now", False),
        ("{% generation %}{{ strftime_now('%d') }}{% endgeneration %}", True),
        ("{{ strftime_now('%d' ", True),
    ],
)
def test_only_a_use_of_the_function_asks_for_the_date(template: str, asks: bool) -> None:
    assert asks_for_date(template) is asks


@pytest.mark.parametrize(
    "name", ["chat_template.jinja", "additional_chat_templates/default.jinja", "tokenizer_config.json",
             "chat_template.json", "named"],
)  # fmt: skip
def test_the_template_is_found_where_bases_keep_it(name: str, tmp_path: Path) -> None:
    assert not shows_date(tmp_path)
    path = tmp_path / ("tokenizer_config.json" if name == "named" else name)
    path.parent.mkdir(exist_ok=True)
    value = [{"name": "default", "template": LLAMA}] if name == "named" else LLAMA
    path.write_text(LLAMA if name.endswith(".jinja") else json.dumps({"chat_template": value}))
    assert shows_date(tmp_path)


def test_an_encoder_shows_its_date_in_rows_and_prompts(engine: Engine) -> None:
    from trainables.data.encoding import Encoder

    tokenizer = type(engine.base.tokenizer).from_pretrained(engine.base.path)
    tokenizer.chat_template = LLAMA
    base = replace(engine.base, tokenizer=tokenizer)
    asked = (Message("user", "Hi."),)
    first, second = (Encoder(base, day).prompt(asked, ()).tokens for day in (DAY, NEXT))
    assert first != second
    assert tokenizer.decode(first).replace(" ", "").startswith("TodayDate:09Feb2024")
    assert Encoder(base, DAY).prompt(asked, ()).tokens == first
