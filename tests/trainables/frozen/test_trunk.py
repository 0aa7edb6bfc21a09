"""Tests that an entry is the same to the last bit whatever is computed beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources

from trainables.data.encoding import Encoded
from trainables.engine import Engine
from trainables.frozen.entry_memory import Entry
from trainables.frozen.grouping import GroupShape
from trainables.frozen.trunk import Trunk

BLOCK = 5


@pytest.fixture
def plain(sources: Sources) -> Iterator[Engine]:
    yield packed.plain_engine(sources)


def rows_of(engine: Engine) -> list[Encoded]:
    """Return rows with a picture, and rows of text of several lengths."""
    asked = ["What is two?", "What is two plus three?", "What is two plus three plus five?", "Is it red?"]
    text = [engine.encoder.conversation(packed.text_row(one, "five.")) for one in asked]
    return [engine.encode(index, 2048) for index in range(6)] + text


def computed(trunk: Trunk, rows: Sequence[Encoded], block: int = BLOCK) -> list[Entry]:
    whole = len(trunk.base.towers["vision"])
    features = [trunk.pictures(row.views, whole) if row.views else [] for row in rows]
    return trunk.rows(rows, features, block)


def test_an_entry_does_not_depend_on_the_rows_beside_it(plain: Engine) -> None:
    rows = rows_of(plain)
    trunk = Trunk(plain.base, plain.encoder)
    together = computed(trunk, rows)
    backwards = computed(trunk, rows[::-1])[::-1]
    each = [computed(trunk, [row])[0] for row in rows]
    assert all(trunk._proved.values()) and len(trunk._proved) >= 2, "groups were computed"
    for row, *found in zip(rows, together, backwards, each, strict=True):
        assert found[0][0].shape == (len(row.tokens), plain.base.model.config.get_text_config().hidden_size)
        assert all(torch.equal(found[0][0], one[0]) for one in found[1:])


@pytest.mark.parametrize("block", [3, 12])
def test_a_picture_does_not_depend_on_those_beside_it(plain: Engine, block: int) -> None:
    views = [plain.encode(index, 2048).views[0] for index in range(6)]
    trunk = Trunk(plain.base, plain.encoder)
    together, each = trunk.pictures(views, block), [trunk.pictures([view], block)[0] for view in views]
    taps = sum(tap < block for tap in plain.base.model.config.vision_config.deepstack_visual_indexes)
    for one, other in zip(together, each, strict=True):
        assert len(one) == len(other) == 1 + taps
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_an_entry_is_what_the_model_computes(plain: Engine) -> None:
    [row] = rows_of(plain)[:1]
    inputs = packed.collated([row], plain).inputs
    with torch.no_grad():
        whole = plain.base.model.model(**inputs, output_hidden_states=True, use_cache=False).hidden_states[BLOCK]
    [(entry,)] = computed(Trunk(plain.base, plain.encoder), [row])
    assert torch.allclose(entry, whole[0], atol=1e-4)
    assert not torch.allclose(entry[1:], whole[0, :-1], atol=1e-2), "equality would say nothing"


class Slanted(Trunk):
    """The fault: a row of a group depends on its place, as if a kernel summed in another order there."""

    def _language(self, rows: Sequence[Encoded], pictures: Sequence[Entry], shape: GroupShape, block: int) -> Any:
        hidden = super()._language(rows, pictures, shape, block)
        return hidden + 1e-7 * torch.arange(len(hidden)).view(-1, 1, 1)


def test_rows_are_computed_alone_where_a_place_in_a_group_matters(plain: Engine) -> None:
    rows = rows_of(plain)[6:]
    slanted = Slanted(plain.base, plain.encoder)
    found, again = computed(slanted, rows), computed(slanted, rows[::-1])[::-1]
    assert not all(slanted._proved.values())
    assert all(torch.equal(one[0], other[0]) for one, other in zip(found, again, strict=True))


def test_int8_is_computed_row_by_row(plain: Engine) -> None:
    trunk = Trunk(plain.base, plain.encoder)

    class Linear8bitLt(torch.nn.Linear):
        """Stands for bitsandbytes' class."""

    model = torch.nn.Sequential(Linear8bitLt(2, 2))
    assert trunk.most_tokens > 0
    assert Trunk(replace(plain.base, model=model), plain.encoder).most_tokens == 0


def test_the_mode_of_the_model_is_left_as_it_was(plain: Engine) -> None:
    trunk, rows = Trunk(plain.base, plain.encoder), rows_of(plain)[:1]
    in_eval = computed(trunk, rows)[0][0]
    with packed.training(plain.base):
        in_training = computed(trunk, rows)[0][0]
        assert plain.base.model.training
    assert torch.equal(in_eval, in_training) and not in_eval.requires_grad
