"""Tasks of lm-eval as a probe: their requests are built once and answered at each eval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.data.rows import Message
from trainables.errors import UserError
from trainables.model.base import load_tokenizer
from trainables.probes.metric import Scores
from trainables.spec import ProbeRequest
from trainables.suites.answering import Generation, Request, RequestAnswers
from trainables.suites.generators import generators_kept
from trainables.suites.lm_eval_scores import suite_scores
from trainables.suites.lm_eval_tasks import FOREIGN_ERRORS, loaded_tasks

if TYPE_CHECKING:
    from trainables.evaluation.evaluator import Evaluator
    from trainables.evaluation.live_probe import GivenAnswers, LivePasses

NLTK_HINT = (
    "where there is internet: `python -m nltk.downloader -d DIR punkt punkt_tab`, and set NLTK_DATA=DIR here; or leave "
    "out the rows that need it"
)


class LmEvalProbe:
    """Tasks of lm-eval for an evaluator: all members answer them in shared passes, lm-eval scores the answers.

    Where the base has a chat template, contexts are rendered with it, as by lm-eval's `--apply_chat_template`.

    Raises:
        UserError: as `loaded_tasks`; or a request cannot be answered.
    """

    def __init__(self, evaluator: Evaluator, requests: Sequence[ProbeRequest]) -> None:
        from trainables.suites.replay import built_requests

        self.evaluator = evaluator
        self.template = self._render if evaluator.encoder.tokenizer.chat_template else None
        with generators_kept():
            self.tasks = loaded_tasks(requests)
            self.requests = list(built_requests(self.tasks, self.template))
        self.asked = RequestAnswers(evaluator, self.requests)

    def measure(self, passes: LivePasses, members: Mapping[int, GivenAnswers]) -> dict[int, Scores]:
        """Return the scores of each member."""
        with generators_kept():
            answers = self.asked.answers(passes, tuple(members))
            found = {}
            for member in members:
                known = dict(zip(self.requests, answers[member], strict=True))
                found[member] = _scored(self.tasks, known, self.template)
        return found

    def _render(self, turns: Sequence[Mapping[str, str]], answer_next: bool) -> str:
        messages = [Message(turn["role"], turn["content"]) for turn in turns]  # type: ignore[arg-type]
        return self.evaluator.encoder.conversations.template.render(messages, answer_next, "a request of lm-eval")


def check_tasks(requests: Sequence[ProbeRequest]) -> Scores:
    """Load tasks and score made-up answers, so that what cannot be scored is known before anything is spent.

    The metrics have the names, directions and numbers of rows that evals will have.

    Raises:
        UserError: as `loaded_tasks`; or the code of a task cannot score an answer.
    """
    with generators_kept():
        return _scored(loaded_tasks(requests), None, None)


def tokens_of_tasks(requests: Sequence[ProbeRequest], base: Path) -> dict[ProbeRequest, int]:
    """Return how many tokens an eval reads and writes at most for each task, without those of a chat template.

    Raises:
        UserError: as `loaded_tasks`.
    """
    from trainables.suites.replay import built_requests

    tokenizer = load_tokenizer(base)
    with generators_kept():
        tasks = zip(requests, loaded_tasks(requests), strict=True)
        return {one: tokens_of(built_requests([task], None), tokenizer) for one, task in tasks}


def tokens_of(requests: Iterable[Request], tokenizer: Any) -> int:
    """Return the tokens of requests: those of the texts, and as many new ones as answers may have."""
    total = 0
    for one in requests:
        is_answer = isinstance(one, Generation)
        text = one.context if is_answer else one.context + one.continuation
        total += len(tokenizer(text, add_special_tokens=False)["input_ids"]) + (one.new_tokens if is_answer else 0)
    return total


def _scored(tasks: Sequence[Any], answers: Any, template: Any) -> Scores:
    from trainables.suites.replay import scored

    try:
        return suite_scores(scored(tasks, answers, template))
    except UserError:
        raise
    except FOREIGN_ERRORS as error:
        names = ", ".join(task.task_name for task in tasks)
        message = " ".join(line.strip() for line in str(error).splitlines() if line.strip(" *\n"))[:200]
        raise UserError(
            f"lm-eval must be able to score answers to {names}, but: {type(error).__name__}: {message}",
            NLTK_HINT if "nltk" in message.lower() else "see the code of the task",
        ) from None
