"""Tests that no name in a model card becomes markup, code or a command."""

from __future__ import annotations

import ast
import shlex
from dataclasses import replace
from pathlib import Path

import yaml
from markdown_it import MarkdownIt

from analysis.shipping.card import model_card
from analysis.shipping.chosen import ChosenAdapter
from analysis.shipping.ship import ShippingOptions, ship


def test_no_name_breaks_out_of_the_card(choice: ChosenAdapter, tmp_path: Path) -> None:
    shipment = ship(choice, ShippingOptions(), tmp_path / "shipped", lambda job: choice.measured)
    name = 'b"); exit()\n```\n<script src=x>\nlicense: mit'
    base = choice.spec.base.model_copy(update={"path": tmp_path / name})
    spec = choice.spec.model_copy(update={"base": base})
    card = model_card(replace(shipment, choice=replace(choice, spec=spec, arm="C2`<script src=x>; id")))
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == name
    code, command = (card.split(f"```{kind}\n")[1].split("\n```\n")[0] for kind in ("python", "bash"))
    assert {one.value for one in ast.walk(ast.parse(code)) if isinstance(one, ast.Constant)} == {name, "DIR"}
    assert shlex.split(command)[-1] == "C2`<script src=x>; id=DIR" and shlex.split(command)[2] == " ".join(name.split())
    rendered = MarkdownIt().enable("table").render(card.split("---\n", 2)[2])
    assert "<script" not in rendered and rendered.count("&lt;script src=x&gt;") > 5
    assert "\nlicense" not in card
