"""Tests what one pass over a draft tells, and which drafts are tried, on plain values."""

from __future__ import annotations

import pytest

from trainables.evaluation.drafts import AnswerRules, Partial, by_members, chosen_draft

END, PICTURE = 9, 8
RULES = AnswerRules(end_tokens=(END,), max_new_tokens=4, unreadable={PICTURE})
CLEAR = [False] * 9


@pytest.mark.parametrize(
    ("known", "draft", "best", "tokens", "done"),
    [
        ((), (1, 2, END), (1, 2, END), (1, 2, END), True),
        ((), (1, 2, END), (5, 7, 7), (5,), False),  # wrong at first
        ((), (1, 2, END), (1, 2, 5), (1, 2, 5), False),  # goes on where the draft ends
        ((), (1, 2, END), (1, END, END), (1, END), True),  # ends before the draft does
        ((), (1, 2), (1, 2), (1, 2), False),
        ((1,), (1, 2, END), (2, END), (1, 2, END), True),  # predicted from the first unknown place on
        ((), (1, 2, 3, 4), (1, 2, 3, 4), (1, 2, 3, 4), True),  # cut at the limit
        ((), (1, 2, 3, 4), (1, 2, 3, END), (1, 2, 3, END), True),
    ],
)
def test_an_answer_is_what_the_pass_predicts_up_to_its_first_difference(
    known: tuple, draft: tuple, best: tuple, tokens: tuple, done: bool
) -> None:
    assert Partial(known).continued(draft, RULES, best, CLEAR) == Partial(tokens, done)


def test_an_answer_stops_before_a_near_tie_and_before_a_token_that_no_prompt_can_hold() -> None:
    found = Partial().continued((1, 2, END), RULES, (1, 2, END), [False, True, False])
    assert found == Partial((1,), near_tie=True) and not found.is_open
    assert Partial().continued((1, 2), RULES, (1, PICTURE), CLEAR) == Partial((1,), near_tie=True)
    assert Partial().continued((1, 2, END), RULES, (5, 2, END), [False, True, False]) == Partial((5,))


@pytest.mark.parametrize(
    ("draft", "kept"),
    [
        ((1, 2, END), (1, 2, END)),
        ((1, END, 2, END), (1, END)),
        ((1, 2, 3, 4, 5, END), (1, 2, 3, 4)),
        ((1, PICTURE, END), (1,)),
        ((END,), (END,)),
        ((), ()),
    ],
)
def test_a_draft_is_cut_like_an_answer(draft: tuple, kept: tuple) -> None:
    assert RULES.cut(draft) == kept


def test_most_members_choose_the_draft_and_only_open_answers_count() -> None:
    first, second = (1, 2, END), (3, END)
    one, other = (Partial(), [first, second]), (Partial(), [second])
    assert chosen_draft([one, other, other]) == second
    assert chosen_draft([one, (Partial(done=True), [second]), (Partial(near_tie=True), [second])]) == first
    assert chosen_draft([(Partial((1,)), [second, first])]) == first, "only a draft that begins with the answer"
    assert chosen_draft([(Partial((1, 2, END)), [first]), (Partial(), [()])]) is None
    assert chosen_draft([]) is None


def test_rows_for_the_same_members_share_a_pass_and_few_rows_join_others() -> None:
    everyone, pair, single = frozenset({0, 1, 2}), frozenset({0, 1}), frozenset({2})
    wanted = {**dict.fromkeys("abcd", everyone), "e": pair, "f": single}
    assert by_members(wanted, few_rows=2) == [((0, 1, 2), ["a", "b", "c", "d"]), ((0, 1, 2), ["e", "f"])]
    assert by_members({"e": pair, "f": single}, few_rows=0) == [((0, 1), ["e"]), ((2,), ["f"])]
    assert by_members({}) == []
