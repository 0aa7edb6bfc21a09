"""A model of lm-eval that replays answers, and lm-eval's scoring of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lm_eval.api.model import LM  # type: ignore[import-not-found] an extra

from trainables.errors import UserError
from trainables.suites.answering import Answer, Generation, Likelihood, Request

NEW_TOKENS = 256  # lm-eval's default
FEWSHOT_SEED = 1234  # lm-eval's default; of a generator of the task's own
BOOTSTRAP_DRAWS = 1000
REQUEST_TYPES = ("generate_until", "loglikelihood", "loglikelihood_rolling")

Template = Callable[..., str]


def request_of(instance: Any) -> Request:
    """Return what an instance of lm-eval asks.

    Raises:
        UserError: it samples, so that its answer would differ from eval to eval.
    """
    if instance.request_type == "loglikelihood":
        return Likelihood(*instance.args)
    if instance.request_type == "loglikelihood_rolling":
        return Likelihood("", instance.args[0])
    context, options = instance.args
    if options.get("do_sample") and options.get("temperature", 1.0) > 0:
        raise UserError(
            f"an answer must be greedy, but task `{instance.task_name}` samples with temperature "
            f"{options.get('temperature', 1.0)}",
            "set `generation_kwargs: {do_sample: false, temperature: 0.0}` in a YAML file of your own for the task",
        )
    until = options.get("until") or []
    ends = (until,) if isinstance(until, str) else tuple(until)
    return Generation(context, ends, int(options.get("max_gen_toks", NEW_TOKENS)))


class ReplayedModel(LM):
    """Answers each request with the answer that was found for it before."""

    def __init__(self, answers: Mapping[Request, Answer] | None, template: Template | None = None) -> None:
        super().__init__()
        self.answers, self.template = answers, template

    def generate_until(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return the text of each answer."""
        return [self._answer(one, "yes") for one in requests]

    def loglikelihood(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return log-likelihood and greediness of each continuation."""
        return [self._answer(one, (-1.0, False)) for one in requests]

    def loglikelihood_rolling(self, requests: Sequence[Any], **_: Any) -> list[Any]:
        """Return the log-likelihood of each text."""
        return [self._answer(one, (-1.0, False))[0] for one in requests]

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """Render turns with the chat template of the base."""
        if self.template is None:
            raise ValueError("a model without a chat template must not be asked to render turns")
        return self.template(chat_history, add_generation_prompt)

    @property
    def tokenizer_name(self) -> str:
        """Return the name by which lm-eval tells cached requests apart; none are cached."""
        return "base"

    def _answer(self, instance: Any, made_up: Any) -> Any:
        request = request_of(instance)
        if self.answers is None:
            return made_up
        if request not in self.answers:
            raise ValueError(
                f"task `{instance.task_name}` must ask the same at each eval, but this was not asked before"
            )
        return self.answers[request]


def built_requests(tasks: Sequence[Any], template: Template | None) -> dict[Request, None]:
    """Build the requests of tasks and return each once, in their order."""
    model = ReplayedModel({}, template)
    for task in tasks:
        task.set_fewshot_seed(FEWSHOT_SEED)
        task.build_all_requests(
            apply_chat_template=template is not None,
            fewshot_as_multiturn=template is not None,
            chat_template=model.apply_chat_template if template else None,
            tokenizer_name=model.tokenizer_name,
        )
    return {request_of(instance): None for task in tasks for instance in task.instances}


def scored(tasks: Sequence[Any], answers: Mapping[Request, Answer] | None, template: Template | None) -> Any:
    """Return lm-eval's results on these answers; on made-up ones if `answers` is None. No generator is seeded."""
    from lm_eval import simple_evaluate  # type: ignore[import-not-found]

    os.environ.setdefault("DISABLE_MULTIPROC", "1")  # lm-eval would bootstrap in as many processes as there are cores
    return simple_evaluate(
        model=ReplayedModel(answers, template),
        tasks=list(tasks),
        bootstrap_iters=BOOTSTRAP_DRAWS if answers is not None else 0,
        apply_chat_template=template is not None,
        fewshot_as_multiturn=template is not None,
        random_seed=None,  # type: ignore[arg-type] it would seed the global generators
        numpy_random_seed=None,  # type: ignore[arg-type]
        torch_random_seed=None,  # type: ignore[arg-type]
        fewshot_random_seed=FEWSHOT_SEED,
    )
