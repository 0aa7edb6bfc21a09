"""Tests the last layer for labels only: what is selected, and that results equal those of a whole last layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import packed
import pytest
import torch
from small_trials import Sources, SpecMaker
from tiny_families import TINY, text_sources, write_base

from trainables.cohort import label_rows, stacked_lora
from trainables.cohort.label_rows import GivenKeys, Selection, of_labels, of_last
from trainables.cohort.shared_forward import SharedForward
from trainables.data.encoding import IGNORED, Batch
from trainables.data.packing import pack
from trainables.engine import Engine
from trainables.model.dropout import Masks
from trainables.spec import Placement, TrialSpec

GRADIENTS, SEEN = 1e-10, 1e-4
SourcesOf = Callable[[str], Sources]


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    softmax = torch.nn.functional.softmax

    def wide(scores: torch.Tensor, dim: int, dtype: torch.dtype | None = None) -> torch.Tensor:
        return softmax(scores, dim, dtype=None if scores.dtype == torch.float64 else dtype)

    # attention written out asks for float32 by name
    monkeypatch.setattr(torch.nn.functional, "softmax", wide)
    with packed.all_double():
        yield


@pytest.fixture(scope="module")
def sources_of(tmp_path_factory: pytest.TempPathFactory) -> SourcesOf:
    made: dict[str, Sources] = {}

    def make(family: str) -> Sources:
        if family not in made:
            directory = tmp_path_factory.mktemp(family)
            made[family] = text_sources(directory, write_base(family, directory / "base"))
        return made[family]

    return make


def arms(sources: Sources, *depths: int, **changes: Any) -> list[TrialSpec]:
    return [
        sources.spec(**{"name": f"L{depth}-{number}", "placement": Placement(language=depth), "seed": number,
                        "dropout": 0.2, **changes})
        for number, depth in enumerate(depths)
    ]  # fmt: skip


def unlike_rows(engine: Engine) -> Batch:
    """Make a batch whose rows have one, three and many labels."""
    rows = [packed.text_row("What is it?", answer) for answer in ("red", "red and blue", "one two three five six two")]
    return packed.collated([engine.encoder.conversation(one) for one in rows], engine)


def furthest(engine: Engine, specs: list[TrialSpec], batch: Batch) -> float:
    solo = [packed.alone(engine, spec, {"rows": batch})["rows"] for spec in specs]
    shared = SharedForward(engine.base, packed.lifted(engine.base, specs))
    try:
        found = packed.packed(shared, range(len(specs)), batch)
    finally:
        shared.remove()
    worst = [max(abs(found[n][0] - loss), packed.furthest(found[n][1], own)) for n, (loss, own) in enumerate(solo)]
    return max(worst)


# -------------------------------------------------------------------- what is selected
def test_positions_that_predict_a_label_are_selected_in_order() -> None:
    labels = torch.tensor([[IGNORED, 5, IGNORED, 7, 8, IGNORED], [IGNORED, IGNORED, IGNORED, IGNORED, 4, IGNORED]])
    selection = of_labels(Batch({}, labels))
    assert selection is not None
    assert selection.places.tolist() == [[0, 2, 3], [3, 5, 5]]
    assert selection.used.tolist() == [0, 1, 2, 3]
    assert selection.flat(1).tolist() == [0, 2, 3, 9, 11, 11]
    assert selection.flat(2).tolist() == [0, 2, 3, 9, 11, 11, 12, 14, 15, 21, 23, 23]
    assert Selection(selection.places + 2, selection.used, 8).flat(1, skipped=2).tolist() == selection.flat(1).tolist()


def test_all_positions_are_no_selection() -> None:
    assert of_labels(Batch({}, torch.tensor([[IGNORED, 1, 2, 3], [IGNORED, 1, IGNORED, IGNORED]]))) is None
    assert of_labels(Batch({}, torch.tensor([[1, 1, 2, IGNORED], [IGNORED, 1, IGNORED, IGNORED]]))) is not None


def test_without_labels_one_position_is_computed() -> None:
    selection = of_labels(Batch({}, torch.full((2, 5), IGNORED)))
    assert selection is not None and selection.places.shape == (2, 1) and not len(selection.used)


def test_of_a_prompt_the_last_position_is_selected() -> None:
    selection = of_last(torch.zeros(3, 7, dtype=torch.long))
    assert selection.places.tolist() == [[6]] * 3 and selection.used.tolist() == [0, 1, 2] and selection.tokens == 7


# -------------------------------------------------------------------- packed equals solo
@pytest.mark.parametrize("family", TINY)
def test_rows_of_unlike_numbers_of_labels_equal_those_alone(family: str, sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(sources_of(family))
    batch = unlike_rows(engine)
    assert len(set((batch.labels != IGNORED).sum(dim=1).tolist())) == 3
    assert furthest(engine, arms(sources_of(family), 1, 3), batch) < GRADIENTS


@pytest.mark.parametrize("family", ["qwen3", "gemma2", pytest.param("gemma3_text", marks=pytest.mark.slow)])
def test_packed_rows_equal_those_alone(family: str, sources_of: SourcesOf, double: None) -> None:
    engine = packed.double_engine(sources_of(family))
    rows = [engine.encode(index, 512) for index in range(3)]
    joined = pack(rows, engine.base, 2 * max(len(row.tokens) for row in rows))
    assert len(joined.labels) < len(rows) and "position_ids" in joined.inputs
    assert furthest(engine, arms(sources_of(family), 1, 2), joined) < GRADIENTS


def test_a_family_whose_layer_cannot_be_run_that_way_computes_all(
    sources: Sources, make_spec: SpecMaker, double: None
) -> None:
    engine = packed.double_engine(sources)
    batch, whole = packed.batches(engine)["mixed"], packed.batches(engine)["mixed"].labels.numel()
    specs = [make_spec(name="both", placement=Placement(language=1, vision=2)), make_spec(name="one")]
    steps = engine.base.family.shared_forward
    assert steps is not None
    family = replace(engine.base.family, shared_forward=replace(steps, keys_and_values=None))
    plain = replace(engine, base=replace(engine.base, family=family))
    counts = []
    for one in (engine, plain):
        assert furthest(one, specs, batch) < GRADIENTS
        shared = SharedForward(one.base, packed.lifted(one.base, specs))
        with packed.counted(one.base) as count:
            shared.logits(batch, range(2))
        shared.remove()
        counts.append(count["language"])
    assert counts[0][:-1] == counts[1][:-1]
    assert (counts[0][-1], counts[1][-1]) == (2 * packed.predicting_rows(batch), 2 * whole)


# -------------------------------------------------------------------- planted faults
def test_masks_drawn_for_selected_positions_only_are_caught(
    sources_of: SourcesOf, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = packed.double_engine(sources_of("llama"))
    specs, batch = arms(sources_of("llama"), 1), unlike_rows(engine)
    keep = Masks.keep

    def of_selected(masks: Masks, layer: str, like: torch.Tensor) -> torch.Tensor:
        chosen = packed_groups[0].selected if packed_groups else None
        if chosen is None or len(like) != chosen.places.shape[0] * chosen.tokens:
            return keep(masks, layer, like)
        drawn = keep(masks, layer, like[: chosen.places.numel()])
        return torch.zeros(like.shape, dtype=torch.bool).index_copy(0, chosen.flat(1), drawn)

    packed_groups: list[stacked_lora.Groups] = []
    begin = stacked_lora.Groups.begin
    monkeypatch.setattr(
        stacked_lora.Groups, "begin", lambda own, groups: (packed_groups.insert(0, own), begin(own, groups))[1]
    )
    assert furthest(engine, specs, batch) < GRADIENTS
    monkeypatch.setattr(Masks, "keep", of_selected)
    assert furthest(engine, specs, batch) > SEEN


@pytest.mark.parametrize("fault", ["mask", "rotation", "keys"])
def test_selected_positions_with_the_inputs_of_others_are_caught(
    fault: str, sources_of: SourcesOf, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults: queries see later tokens, are rotated as the first ones, or have the keys of other tokens."""
    engine = packed.double_engine(sources_of("qwen3"))
    specs, batch = arms(sources_of("qwen3"), 1), unlike_rows(engine)
    inputs = label_rows.selected_inputs

    def wrong(base: Any, layer: Any, hidden: torch.Tensor, kwargs: Any, selection: Selection) -> Any:
        rows, given = inputs(base, layer, hidden, kwargs, selection)
        count = rows.shape[1]
        first = tuple(one[:, :count] for one in kwargs["position_embeddings"])
        keys = given["past_key_values"]
        planted: dict[str, dict[str, Any]] = {
            "mask": {"attention_mask": torch.ones_like(given["attention_mask"])},
            "rotation": {"position_embeddings": first},
            "keys": {"past_key_values": GivenKeys(keys.keys.roll(1, dims=2), keys.values)},
        }
        return rows, {**given, **planted[fault]}

    assert furthest(engine, specs, batch) < GRADIENTS
    monkeypatch.setattr("trainables.cohort.shared_forward.selected_inputs", wrong)
    assert furthest(engine, specs, batch) > SEEN
