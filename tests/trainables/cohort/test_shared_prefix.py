"""Tests the shared prefix: text before the first picture is computed once if no adapter can change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import packed
import pytest
import torch
from packed import TAPS
from small_trials import Sources, SpecMaker

from trainables.cohort.shared_forward import SharedForward
from trainables.cohort.shared_prefix import MIN_TOKENS, FrozenPrefix, common_tokens, repeated
from trainables.data.encoding import IGNORED, Batch
from trainables.engine import Engine
from trainables.spec import Placement, TrialSpec


@pytest.fixture
def double(sources: Sources) -> Iterator[Engine]:
    with packed.all_double():
        yield packed.double_engine(sources)


def placed(make_spec: SpecMaker, *depths: tuple[int, int]) -> list[TrialSpec]:
    return [
        make_spec(placement=Placement(language=language, vision=vision), dropout=0.1, seed=number)
        for number, (language, vision) in enumerate(depths)
    ]


def first_at(kinds: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Make rows from letters: t is text, p a picture, l a label, . padding."""
    rows = [list(row) for row in kinds]
    types = torch.tensor([[int(one == "p") for one in row] for row in rows])
    labels = torch.tensor([[7 if one == "l" else IGNORED for one in row] for row in rows])
    return types, labels


# -------------------------------------------------------------------- how many tokens
@pytest.mark.parametrize(
    ("rows", "tokens"),
    [
        (["ttttttppttll"], 6),
        (["ttttttppttll", "ttttppttll.."], 4),
        (["ttttttppttll", "tttppttll..."], 0),  # three are too few
        (["t" * MIN_TOKENS + "ppll"], MIN_TOKENS),
        (["t" * (MIN_TOKENS - 1) + "ppll"], 0),
        (["ppttttttttll"], 0),
        (["ttttttppttll", "tttttttttlll"], 6),  # a row of text ends at what predicts its first label
        (["ttttttppttll", "tttttlllll.."], 4),
        (["ttttttppttll", "ttttlllll..."], 0),
        (["ttttttllttppttll"], 5),  # labels before the picture: the answer of an earlier turn
        (["tttllttppttll"], 0),
    ],
)
def test_a_prefix_ends_before_the_first_picture_and_before_the_first_prediction(rows: list[str], tokens: int) -> None:
    assert common_tokens(*first_at(rows)) == tokens


def test_what_is_given_by_row_is_repeated_for_every_group() -> None:
    given = torch.arange(6).view(3, 2)
    assert torch.equal(repeated(given, 3, 2), torch.cat([given, given]))
    assert torch.equal(repeated(torch.cat([given, given]), 3, 3), torch.cat([given] * 3))
    assert repeated(None, 3, 2) is None
    assert [len(one) for one in repeated((given, given), 3, 2)] == [6, 6]


# -------------------------------------------------------------------- in a pass
def ran(
    double: Engine, specs: Sequence[TrialSpec], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[tuple[int, int | None]], dict[int, Any], list[int]]:
    """Run a pass: (tokens, first adapted layer) of every prefix that was read, gradients, token rows by layer."""
    read: list[tuple[int, int | None]] = []
    run = FrozenPrefix.run.__func__  # type: ignore[attr-defined]

    def watched(cls: type, base: Any, inputs: Any, positions: Any, tokens: int, first: int | None) -> FrozenPrefix:
        read.append((tokens, first))
        return run(cls, base, inputs, positions, tokens, first)

    monkeypatch.setattr(FrozenPrefix, "run", classmethod(watched))
    shared = SharedForward(double.base, packed.lifted(double.base, specs))
    try:
        with packed.counted(double.base) as counts:
            found = packed.packed(shared, range(len(specs)), batch)
    finally:
        shared.remove()
    return read, found, counts["language"]


@pytest.mark.parametrize("depths", [[(0, 2), (0, 4)], [(0, 2), (3, 0)], [(5, 2), (1, 0), (0, 12)]])
def test_the_prefix_is_computed_once_and_changes_no_gradient(
    depths: list[tuple[int, int]], double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, specs = packed.batches(double)["image"], placed(make_spec, *depths)
    read, found, computed = ran(double, specs, batch, monkeypatch)
    deepest = max(language for language, _ in depths)
    first = 8 - deepest if deepest else None
    rows, length = batch.labels.shape
    assert len(read) == 1 and read[0][1] == first
    tokens, groups = read[0][0], len(depths)
    below = rows * (tokens + groups * (length - tokens))
    last = groups * packed.predicting_rows(batch)
    above = [groups * rows * length] * (deepest - 1) + [last]
    assert computed == ([below] * (8 - deepest) + above if deepest else [below] * 7 + [last])
    for number, spec in enumerate(specs):
        loss, gradients = packed.alone(double, spec, {"image": batch})["image"]
        assert abs(found[number][0] - loss) < 1e-12
        assert packed.furthest(found[number][1], gradients) < 1e-10


@pytest.mark.parametrize(
    ("depths", "why"),
    [
        ([(8 - TAPS + 1, 0), (0, 2)], "a layer that DeepStack reaches is adapted"),
        ([(2, 0), (3, 0)], "all are one group there"),
        ([(0, 2)], "there is nobody to share with"),
    ],
)
def test_nothing_is_read_beforehand_where_it_is_not_common_or_does_not_pay(
    depths: list[tuple[int, int]], why: str, double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = packed.batches(double)["image"]
    read, _, _ = ran(double, placed(make_spec, *depths), batch, monkeypatch)
    assert read == [], why


def test_rows_that_begin_with_a_picture_or_answer_early_have_no_prefix(
    double: Engine, make_spec: SpecMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = placed(make_spec, (0, 2), (0, 4))
    kinds = packed.batches(double)
    assert common_tokens(kinds["image"].inputs["mm_token_type_ids"], kinds["image"].labels) >= MIN_TOKENS
    early = Batch(kinds["image"].inputs, kinds["image"].labels.clone())
    early.labels[0, MIN_TOKENS] = early.inputs["input_ids"][0, MIN_TOKENS]
    read, found, _ = ran(double, specs, early, monkeypatch)
    assert read == []
    loss, gradients = packed.alone(double, specs[0], {"early": early})["early"]
    assert abs(found[0][0] - loss) < 1e-12
    assert packed.furthest(found[0][1], gradients) < 1e-10
    early.labels[0, MIN_TOKENS] = IGNORED
    early.labels[0, MIN_TOKENS + 1] = 5  # one token later it has one again, as long as may be
    assert ran(double, specs, early, monkeypatch)[0] == [(MIN_TOKENS, None)]


def test_the_prefix_carries_no_graph(double: Engine, make_spec: SpecMaker) -> None:
    batch = packed.batches(double)["image"]
    adapters = packed.lifted(double.base, placed(make_spec, (2, 0), (0, 2)))
    shared, kept = SharedForward(double.base, adapters), []
    run = shared._shared_text

    def keep(*given: Any, **named: Any) -> Any:
        kept.append(run(*given, **named))
        return kept[-1]

    shared._shared_text = keep  # type: ignore[method-assign]
    out = shared.logits(batch, range(2))
    shared.remove()
    assert out.values.requires_grad and not kept[0].hidden.requires_grad
    pairs = [(layer.keys, layer.values) for layer in kept[0].keys.layers if layer.is_initialized]
    assert len(pairs) == 6  # one for each layer below the lowest language adapter
    assert not any(one.requires_grad for pair in pairs for one in pair)
