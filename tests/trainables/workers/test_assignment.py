"""Tests on which engine each trial trains, as engines join and are lost."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.workers.assignment import Assignments, Group, Move


def engines_of(assignments: Assignments, trials: str) -> list[str | None]:
    found = [assignments.assign(trial) for trial in trials]
    return [one and one.engine for one in found]


def begun(groups: list[Group], engines: Iterable[str]) -> Assignments:
    assignments = Assignments(list(engines))
    assignments.begin(groups)
    return assignments


def four_groups() -> Assignments:
    return begun([Group(("a", "b"), 0), Group(("c", "d"), 1), Group(("e", "f"), 0), Group(("g", "h"), 1)], "12")


def two_on_the_first() -> Assignments:
    assignments = four_groups()
    engines_of(assignments, "acbdef")
    for trial in "cd":
        assignments.left(trial)
    return assignments


def test_groups_train_where_they_were_planned_and_members_on_one_engine() -> None:
    assignments = four_groups()
    assert engines_of(assignments, "acebdf") == ["1", "2", "1", "1", "2", "1"]
    found = assignments.assign("b")
    assert found is not None and found.peers == ("a", "b")


def test_a_group_goes_to_an_engine_with_nothing_to_do_before_its_own() -> None:
    assignments = four_groups()
    engines_of(assignments, "abcd")
    assignments.joined("3")
    assert engines_of(assignments, "ef") == ["3", "3"]
    for trial in "cd":
        assignments.left(trial)
    assert engines_of(assignments, "g") == ["2"]


def test_the_groups_of_a_lost_engine_are_placed_anew_and_wait_while_there_is_none() -> None:
    assignments = four_groups()
    engines_of(assignments, "abcd")
    assignments.lost("1")
    assert engines_of(assignments, "ab") == ["2", "2"]
    assignments.lost("2")
    assert engines_of(assignments, "abcd") == [None] * 4
    assignments.joined("3")
    assert engines_of(assignments, "abcd") == ["3"] * 4


def test_waiting_groups_move_to_an_engine_with_nothing_to_do_and_the_last_group_stays() -> None:
    assignments = two_on_the_first()
    assert assignments.next_move() == Move("1", "2", ("e", "f")), "the group that came last"
    assert assignments.next_move([("e", "f")]) == Move("1", "2", ("a", "b")), "the engine trains the other one"
    assert assignments.next_move([("e", "f"), ("a", "b")]) is None
    move = Move("1", "2", ("e", "f"))
    assignments.moved(move, ())
    assert assignments.next_move() == move, "nothing was released"
    assignments.moved(move, ("e", "f"))
    assert engines_of(assignments, "abef") == ["1", "1", "2", "2"]
    assert assignments.next_move() is None, "no engine has nothing to do"
    for trial in "ef":
        assignments.left(trial)
    assert assignments.next_move() is None, "one group trains, and no other waits"


def test_a_part_of_a_group_that_is_released_is_a_group_of_its_own() -> None:
    assignments = two_on_the_first()
    assignments.moved(Move("1", "2", ("e", "f")), ("f",))
    first, second = assignments.assign("e"), assignments.assign("f")
    assert first is not None and second is not None
    assert (first.engine, first.peers) == ("1", ("e",))
    assert (second.engine, second.peers) == ("2", ("f",))


def test_a_trial_that_failed_alone_is_tried_on_another_engine_if_there_is_one() -> None:
    assignments = four_groups()
    engines_of(assignments, "abcd")
    assignments.elsewhere("a")
    moved, left = assignments.assign("a"), assignments.assign("b")
    assert moved is not None and (moved.engine, moved.peers) == ("2", ("a",))
    assert left is not None and (left.engine, left.peers) == ("1", ("b",))
    assignments.lost("1")
    assignments.elsewhere("a")
    assert engines_of(assignments, "a") == ["2"]


def test_the_next_batch_begins_anew_and_a_trial_in_no_group_waits_for_nobody() -> None:
    assignments = two_on_the_first()
    assignments.begin([Group(("a", "b"), 1)])
    assert dict(assignments.loads()) == {"1": 0, "2": 0}
    assert engines_of(assignments, "ab") == ["2", "2"]
    unknown = assignments.assign("z")
    assert unknown is not None and unknown.peers == ("z",)


TRIALS = [f"t{number}" for number in range(16)]


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.lists(st.tuples(st.sampled_from(["place", "leave", "join", "lose", "move"]), st.integers(0, 15)), max_size=60),
)
def test_whatever_happens_a_trial_is_with_its_peers_on_a_living_engine(
    sizes: list[int], story: list[tuple[str, int]]
) -> None:
    names = iter(TRIALS)
    groups = [Group(tuple(next(names) for _ in range(size)), number % 2) for number, size in enumerate(sizes) if size]
    groups = [group for group in groups if group.trials]
    known = [trial for group in groups for trial in group.trials]
    assignments = begun(groups, ["e0", "e1"])
    for number, (what, which) in enumerate(story):
        trial = known[which % len(known)]
        if what == "place":
            placed = assignments.assign(trial)
            assert (placed is None) == (not assignments.engines)
            if placed is not None:
                assert placed.engine in assignments.engines and trial in placed.peers
                others = [assignments.engine_of(peer) for peer in placed.peers]
                assert set(others) == {placed.engine}
        elif what == "leave":
            assignments.left(trial)
        elif what == "join":
            assignments.joined(f"n{number}")
        elif what == "lose" and assignments.engines:
            assignments.lost(assignments.engines[which % len(assignments.engines)])
        elif what == "move" and (move := assignments.next_move()) is not None:
            before = assignments.loads()
            assignments.moved(move, move.trials[: 1 + which % len(move.trials)])
            assert before[move.target] == 0 < assignments.loads()[move.target]
            assert sum(assignments.loads().values()) == sum(before.values())
    assert sorted(trial for group in assignments.groups for trial in group.trials) == sorted(known)
