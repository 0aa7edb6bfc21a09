"""Runs in lmms-eval's own environment: writes the requests of its tasks, and scores answers.

It imports nothing of this project.

    ENV/bin/python lmms_worker.py DIR                 DIR/tasks.json to DIR/requests.jsonl, with pictures
    ENV/bin/python lmms_worker.py DIR answers.json    scores these answers to DIR/results.json

`tasks.json` maps each task to a JSONL file with the task's own columns; `image` is the path of a picture. Errors that
the user can mend are one line of JSON on standard error, with exit code 2.
"""

import json
import random
import sys
from pathlib import Path

MEND = 2  # exit code
PICTURE = "image"
ROUNDING = 1e-9


def refuse(message, hint=""):
    """End with an error that the user can mend."""
    print(json.dumps({"message": message, "hint": hint}), file=sys.stderr)
    raise SystemExit(MEND)


def local_task(name, rows, scratch, manager):
    """Return the configuration of a task that reads local rows."""
    import datasets  # type: ignore[import-not-found]

    if name not in manager.all_subtasks:
        import difflib

        close = difflib.get_close_matches(name, manager.all_subtasks, n=3)
        refuse(f"lmms-eval must have the task, but it has no `{name}`", f"the nearest: {', '.join(close)}")
    config = manager._get_config(name)
    if "include" in config:
        from lmms_eval import utils  # type: ignore[import-not-found]

        included = utils.load_yaml_config(yaml_path=None, yaml_config={"include": config.pop("include")}, mode="full")
        config = {**included, **config}
    if config.get("output_type") != "generate_until":
        refuse(f"a task must ask for one answer to a prompt, but `{name}` is {config.get('output_type')}")
    split = config.get("test_split") or config["validation_split"]
    with open(rows, encoding="utf-8") as file:
        read = [json.loads(line) for line in file if line.strip()]
    for row in read:
        if PICTURE in row:
            row[PICTURE] = str(Path(rows).parent / row[PICTURE])
    made = datasets.Dataset.from_list(read)
    if PICTURE in made.column_names:
        made = made.cast_column(PICTURE, datasets.Image())
    where = str(scratch / f"rows-{name}")
    datasets.DatasetDict({split: made}).save_to_disk(where)
    return {**config, "task": name, "dataset_path": where, "dataset_kwargs": {"load_from_disk": True}}


def model_of(directory, answers):
    """Return a model that writes what it is asked, or replays answers."""
    from lmms_eval.api.model import lmms  # type: ignore[import-not-found]

    class Replayed(lmms):
        def generate_until(self, requests):
            if answers is not None:
                return [answers[f"{one.args[4]}/{one.args[3]}"] for one in requests]
            with open(directory / "requests.jsonl", "a", encoding="utf-8") as file:
                for one in requests:
                    context, options, to_visual, doc_id, task, split = one.args
                    pictures = []
                    for number, picture in enumerate(to_visual(self.task_dict[task][split][doc_id]) or []):
                        path = directory / f"{task}-{doc_id}-{number}.png"
                        picture.save(path)
                        pictures.append(str(path))
                    asked = {"key": f"{task}/{doc_id}", "text": context, "pictures": pictures, "options": options}
                    file.write(json.dumps(asked) + "\n")
            return ["yes"] * len(requests)

        def loglikelihood(self, requests):
            raise NotImplementedError

        def generate_until_multi_round(self, requests):
            raise NotImplementedError

    return Replayed()


def error_of(values):
    """Return the standard error of a mean of numbers, None if there are too few."""
    count = len(values)
    if count < 2:
        return None
    mean = sum(values) / count
    return (sum((one - mean) ** 2 for one in values) / (count - 1) / count) ** 0.5


def main(directory, answers_path=None):
    """Write requests, or score answers."""
    import torch
    from lmms_eval.evaluator import simple_evaluate  # type: ignore[import-not-found]
    from lmms_eval.tasks import TaskManager  # type: ignore[import-not-found]

    answers = json.loads(Path(answers_path).read_text(encoding="utf-8")) if answers_path else None
    tasks = json.loads((directory / "tasks.json").read_text(encoding="utf-8"))
    manager = TaskManager(verbosity="ERROR")
    configs = [local_task(name, rows, directory, manager) for name, rows in tasks.items()]
    before = torch.get_rng_state(), random.getstate()
    found = simple_evaluate(
        model_of(directory, answers), tasks=configs, task_manager=manager, bootstrap_iters=100, verbosity="ERROR",
        random_seed=None, numpy_random_seed=None, torch_random_seed=None, process_docs_parallel=1,
    )  # fmt: skip
    same = torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
    if answers is None:
        return
    metrics = []
    for task, values in found["results"].items():
        samples = found["samples"][task]
        for key, value in values.items():
            metric, comma, _ = key.partition(",")
            if not comma or metric.endswith(("_stderr", "_stderr_clt", "_stderr_clustered")):
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                continue
            by_row = [one[metric] for one in samples if metric in one]
            numbers = [score(one) for one in by_row]
            known = [one for one in numbers if one is not None]
            is_mean = len(known) == len(numbers) > 0 and abs(sum(known) / len(known) - value) < ROUNDING
            metrics.append(
                {
                    "name": f"lmms-eval/{task}/{metric}", "value": value, "rows": len(by_row),
                    "higher": found["higher_is_better"].get(task, {}).get(metric, True),
                    "error": error_of(known) if is_mean else None,
                }
            )  # fmt: skip
    text = json.dumps({"metrics": metrics, "generators_unchanged": same}, indent=1)
    (directory / "results.json").write_text(text, encoding="utf-8")


def score(result):
    """Return the number that a task gives one row; None if it gives none."""
    if isinstance(result, dict):
        result = result.get("score", result.get("is_correct"))
    return float(result) if isinstance(result, (bool, int, float)) else None


if __name__ == "__main__":
    beside = Path(__file__).resolve().parent  # which holds a module named as lmms-eval
    sys.path = [one for one in sys.path if Path(one or ".").resolve() != beside]
    main(Path(sys.argv[1]), *sys.argv[2:3])
