from __future__ import annotations

import pytest
from small_trials import SpecMaker

from trainables.errors import UserError
from trainables.model.families import Blocks, LinearShape, TowerName, family_of
from trainables.model.placement import ResolvedPlacement, resolve
from trainables.spec import Placement


def blocks(tower: str, count: int) -> Blocks:
    return tuple((LinearShape(f"{tower}.{n}.a", 64, 128), LinearShape(f"{tower}.{n}.b", 128, 32)) for n in range(count))


TOWERS: dict[TowerName, Blocks] = {"language": blocks("language", 12), "vision": blocks("vision", 3)}


def test_the_last_layers_are_meant_in_order_and_language_comes_first() -> None:
    resolved = resolve(Placement(language=2, vision=1), TOWERS)
    assert resolved.module_names == ("language.10.a", "language.10.b", "language.11.a", "language.11.b",
                                     "vision.2.a", "vision.2.b")  # fmt: skip


@pytest.mark.parametrize("placement", [Placement(), Placement(language=12, vision=3), Placement(vision=3)])
def test_depths_from_nothing_to_the_whole_tower(placement: Placement) -> None:
    resolved = resolve(placement, TOWERS)
    assert len(resolved.linears["language"]) == 2 * placement.language
    assert len(resolved.linears["vision"]) == 2 * placement.vision
    assert (resolved.total_parameters(4) == 0) == placement.is_baseline


@pytest.mark.parametrize(
    ("placement", "expected", "hint"),
    [
        (Placement(language=13), "L13-V0 asks for the last 13 of 12 language layers", "`language` between 0 and 12"),
        (Placement(vision=4), "L0-V4 asks for the last 4 of 3 vision layers", "`vision` between 0 and 3"),
    ],
)
def test_deeper_than_the_tower_is_refused(placement: Placement, expected: str, hint: str) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        resolve(placement, TOWERS)
    assert hint in (caught.value.hint or "")


def test_parameters_are_rank_times_in_plus_out() -> None:
    resolved = ResolvedPlacement({"language": (LinearShape("x", 3, 5),), "vision": (LinearShape("y", 7, 11),)})
    assert resolved.parameters("language", 2) == 2 * (3 + 5)
    assert resolved.total_parameters(2) == 2 * (3 + 5 + 7 + 11)
    assert resolved.adapter_megabytes(2) == 2 * 26 * 4 / 1e6
    assert (
        resolved.describe(2) == "adapted at rank 2: language 1 modules, 16 parameters; vision 1 modules, 36 parameters"
    )


def test_no_merger_and_no_embedding_is_ever_adapted(make_spec: SpecMaker) -> None:
    family, config = family_of(make_spec().base.path)
    towers = family.towers(config)
    everything = resolve(Placement(language=len(towers["language"]), vision=len(towers["vision"])), towers)
    forbidden = ("merger", "embed", "lm_head", "norm", "deepstack", "patch")
    assert not [name for name in everything.module_names if any(word in name for word in forbidden)]


def test_targets_narrow_a_placement_to_linears_of_that_name() -> None:
    resolved = resolve(Placement(language=1, vision=1), TOWERS, ("b",))
    assert resolved.module_names == ("language.11.b", "vision.2.b")


@pytest.mark.parametrize(
    ("placement", "expected"),
    [(Placement(language=1), "`qkv`"), (Placement(language=1, vision=1), "language has none of qkv")],
)
def test_a_target_that_adapts_nothing_is_refused(placement: Placement, expected: str) -> None:
    towers: dict[TowerName, Blocks] = {**TOWERS, "vision": ((LinearShape("vision.0.qkv", 64, 192),),)}
    with pytest.raises(UserError, match=expected):
        resolve(placement, towers, ("qkv",))


def test_targets_that_are_parts_of_a_fused_linear_are_the_linear_or_refused() -> None:
    layer = (LinearShape("layers.0.self_attn.qkv_proj", 64, 128), LinearShape("layers.0.mlp.down_proj", 64, 64))
    towers: dict[TowerName, Blocks] = {"language": (layer,), "vision": ()}
    resolved = resolve(Placement(language=1), towers, ("q_proj", "k_proj", "v_proj"))
    assert resolved.module_names == ("layers.0.self_attn.qkv_proj",)
    with pytest.raises(UserError, match="q_proj, v_proj are parts of qkv_proj"):
        resolve(Placement(language=1), towers, ("q_proj", "v_proj"))


# -------------------------------------------------------------------- other layers than the last, and kinds of linears
def block(index: int, *linears: str) -> tuple[LinearShape, ...]:
    return tuple(LinearShape(f"layers.{index}.{name}", 8, 8) for name in linears)


DENSE = ("self_attn.qkv", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
ROUTED = ("self_attn.q_proj", "self_attn.o_proj")
KINDS: dict[TowerName, Blocks] = {
    "language": (block(0, *DENSE), block(1, *DENSE), block(2, *ROUTED)),
    "vision": (block(0, "attn.qkv", "attn.proj"),),
}


def own_names(placement: Placement) -> list[str]:
    return [name.removeprefix("layers.") for name in resolve(placement, KINDS).module_names]


def test_listed_layers_are_meant_and_no_others() -> None:
    resolved = resolve(Placement(language=2, language_indices=(0, 11), vision=1, vision_indices=(1,)), TOWERS)
    assert resolved.module_names == ("language.0.a", "language.0.b", "language.11.a", "language.11.b",
                                     "vision.1.a", "vision.1.b")  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        ("attention", ["0.self_attn.qkv", "0.self_attn.o_proj"]),
        ("mlp", ["0.mlp.gate_proj", "0.mlp.up_proj", "0.mlp.down_proj"]),
        ("gate-up", ["0.mlp.gate_proj", "0.mlp.up_proj"]),
        ("all", [f"0.{name}" for name in DENSE]),
    ],
)
def test_a_kind_keeps_its_linears_and_a_fused_one_is_all_its_parts(modules: str, expected: list[str]) -> None:
    placement = Placement(language=1, language_indices=(0,), modules=modules)  # type: ignore[arg-type]
    assert own_names(placement) == expected


@pytest.mark.parametrize(
    ("placement", "expected", "hint"),
    [
        (Placement(language=3, modules="mlp"), "kind mlp, but language layer 2 has only q_proj, o_proj",
         "--modules attention or all"),
        (Placement(vision=1, modules="gate-up"), "kind gate-up, but vision layer 0 has only qkv, proj",
         "--modules attention or all"),
        (Placement(language=1, language_indices=(7,)), "names language layer 7 and the last one is 2",
         "between 0 and 2"),
        (Placement(language=4, language_indices=(0, 1, 2, 3)), "asks for 4 of 3 language layers", "between 0 and 3"),
    ],
)  # fmt: skip
def test_a_tower_without_the_layer_or_the_kind_is_refused(placement: Placement, expected: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve(placement, KINDS)
    assert expected in caught.value.message and hint in (caught.value.hint or "")
