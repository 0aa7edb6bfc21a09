"""Tests that every command and file says the same of a study, and what they say of held-out rows and of bad input."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from measured_experiment import Planned, baseline, write_experiment

from analysis.cli import main
from analysis.options import ConclusionOptions
from analysis.read_conclusion import read_conclusion
from analysis.shipping.chosen import ChosenAdapter, chosen
from sweeps.tracking.sync import sync_all
from trainables.derived.candidate_name import parse_candidate
from trainables.errors import ExitCode, UserError
from trainables.io.files import write_json
from trainables.probes.metric import RowResults
from trainables.record import ADAPTERS, DERIVED, FINALISTS, HOLDOUT, HOLDOUT_FILE, Measurement, Record

Run = Callable[..., tuple[int, str, str]]
ARMS = {"A1": (0.55, 1.0, 2, 0), "C2": (0.70, 1.0, 2, 4), "D1": (0.80, 0.6, 4, 2)}
LOST = {"A1": (0.60, 0.7, 2, 0), "C2": (0.80, 0.5, 2, 4)}


def trials(arms: dict[str, tuple[float, float, int, int]]) -> list[Planned]:
    return [
        baseline(),
        *(
            Planned(f"{arm}-s{seed}", [fit / 2, fit + seed / 60], [generality, generality], language, vision, seed, arm)
            for arm, (fit, generality, language, vision) in arms.items()
            for seed in range(3)
        ),
    ]


@pytest.fixture(scope="module")
def played(migrated_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a study, one in which all arms lost their generality, and their store."""
    directory = tmp_path_factory.mktemp("played")
    shutil.copy(migrated_database, directory / "mlflow.db")
    uri = write_experiment(directory, trials(ARMS), probes=96)
    write_experiment(directory, trials(LOST), "lost", uri, probes=96)
    return directory


@pytest.fixture
def run(played: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command where both studies are; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(played)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{played / 'mlflow.db'}")
    return called(capsys)


@pytest.fixture
def own(
    migrated_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run a command where there is a study that the test changes."""
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    uri = write_experiment(tmp_path, trials(ARMS), probes=96)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return called(capsys)


def called(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*words: str, experiment: str = "stage4") -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--experiment", experiment])
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return call


def records(name: str = "stage4") -> list[Record]:
    return [Record(path) for path in sorted(Path("runs", name, "trials").iterdir())]


def flat(text: str) -> str:
    return " ".join(text.split())


def test_pareto_report_ship_winners_and_mlflow_name_one_candidate_and_seed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    code, body, _ = run("pareto", "--format", "json")
    pick = json.loads(body)["pick"]
    assert code == 0 and pick["arm"] == "C2"
    assert json.loads(Path("frontier/stage4/winners.json").read_text())["pick"] == pick
    _, table, _ = run("pareto")
    assert f"Ship {pick['candidate']}, seed {pick['seed']}:" in flat(table)
    code, said, _ = run("report", "--format", "markdown")
    assert code == 0 and said.startswith(f"Ship {pick['candidate']}: ")
    page = Path("report.md").read_text()
    assert f"{pick['candidate']}, from trial `{pick['trial']}`" in page.replace("\\", "")
    monkeypatch.setattr("analysis.shipping.chosen.kept_adapters", lambda *_: [])

    def refuse(choice: ChosenAdapter, *_: object) -> None:
        raise UserError("chosen")

    monkeypatch.setattr("analysis.shipping.ship.ship", refuse)
    _, _, error = run("ship", "--out", "shipped")
    assert f"shipping {pick['candidate']} of {pick['trial']}: " in error
    client = MlflowClient(os.environ["MLFLOW_TRACKING_URI"])
    experiment = client.get_experiment_by_name("stage4")
    assert experiment is not None
    launches = client.search_runs([experiment.experiment_id], "tags.`footprint.kind` = 'launch'")
    assert [(one.data.tags["pick"], one.data.tags["pick.trial"]) for one in launches] == [
        (pick["candidate"], pick["trial"])
    ]
    assert [(one.data.tags["pick.level"], one.data.tags["pick.settled"]) for one in launches] == [("0.9", "true")]
    assert pick["level"] == 0.9 and 0.0 <= pick["probability_of_change"] <= 0.1
    run("pareto", "--level", "0.999")
    tags = client.get_run(launches[0].info.run_id).data.tags
    assert [tags[f"pick{part}"] for part in ("", ".trial", ".level", ".settled")] == ["nothing", "", "0.999", ""]


@pytest.mark.slow
def test_another_level_is_another_pick_in_every_command(run: Run) -> None:
    strict = ("--level", "0.999")
    assert run("pareto", *strict)[0] == run("report", *strict)[0] == ExitCode.CHECK_FAILED
    code, _, error = run("ship", "--out", "shipped", *strict)
    assert code == ExitCode.CHECK_FAILED and "with probability 0.999, but no arm of `stage4` has one" in error


@pytest.mark.parametrize("words", [("pareto",), ("report",), ("ship", "--out", "shipped")])
def test_nothing_admissible_exits_with_1_and_names_the_nearest_by_rows(run: Run, words: tuple[str, ...]) -> None:
    code, output, error = run(*words, experiment="lost")
    assert code == ExitCode.CHECK_FAILED
    said = flat(output + error + (Path("report.html").read_text() if words == ("report",) else ""))
    assert "rows short" in said and "A1 @ " in said
    assert "next:" not in said and not Path("shipped").exists()


@pytest.mark.parametrize("words", [("pareto",), ("report",), ("ship", "--out", "shipped")])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--y", "command_only_rate"), "an objective must be measured, but no completed trial of `stage4` has"),
        (("--y", "exact_match:lower"), "--y must be in the metric's own direction"),
        (("--x", "irrelevant_pas"), "did you mean `irrelevant_pass`"),
        (("--level", "1.5"), "Invalid value for '--level'"),
    ],
)
def test_bad_objectives_are_refused_by_every_command(
    run: Run, words: tuple[str, ...], options: tuple[str, ...], says: str
) -> None:
    code, _, error = run(*words, *options)
    assert code == ExitCode.BAD_INPUT and says in flat(error)


# ---------------------------------------------------------------- the holdout
def test_each_placement_names_the_candidate_that_stands_for_it(run: Run) -> None:
    _, output, _ = run("pareto")
    assert any(line.split()[1:2] == ["C2"] and "@ 60" in line for line in output.splitlines())
    header, first = list(csv.reader(io.StringIO(run("pareto", "--format", "csv")[1])))[:2]
    said = dict(zip(header, first, strict=True))
    assert said["candidate"].startswith(f"{said['placement'].split()[0]} @ ")
    named = {
        one["placement"]: one["candidate"] for one in json.loads(run("pareto", "--format", "json")[1])["placements"]
    }
    assert named["C2"] == "C2 @ 60" and named["A0"] is None
    table = run("pareto", "--format", "markdown")[1].splitlines()
    assert table[0].startswith("| placement | standing | candidate |") and any("| @ 60 |" in line for line in table)


def test_a_gain_that_may_be_none_is_no_reason_to_ship(own: Run) -> None:
    """One answer of 60 more than the base has is nothing to ship, even where nothing else is admissible."""
    weak = Planned("A1-s0", [0.0, 1 / 60], [1.0, 1.0], arm="A1")
    write_experiment(Path.cwd(), [baseline(), weak], "weak", os.environ["MLFLOW_TRACKING_URI"], probes=96)
    _, output, _ = own("pareto", experiment="weak")
    own("report", "--format", "markdown", experiment="weak")
    for said in (flat(output), flat(Path("report.md").read_text())):
        assert "Ship nothing yet: no candidate both shows a gain over the base alone and meets the constraint" in said
        assert "gain not shown: exact_match 0.017 [-0." in said
    assert own("ship", "--out", "shipped", experiment="weak")[0] == ExitCode.CHECK_FAILED
    assert "not shown" not in flat(own("pareto")[1])


def test_without_a_holdout_it_says_so_and_only_ship_is_next(run: Run) -> None:
    _, output, _ = run("pareto")
    assert "No rows were held out: with --test and --ood-test" in flat(output)
    assert output.partition("next:\n")[2].split("\n")[0] == "    footprint ship --experiment stage4 --out shipped"


def test_a_holdout_that_is_not_measured_is_the_next_command_and_then_its_values_are_shown(own: Run) -> None:
    write_json(Path("runs", "stage4", HOLDOUT_FILE), {})
    pick = json.loads(own("pareto", "--format", "json")[1])["pick"]
    for words in (("pareto",), ("report",)):
        _, output, _ = own(*words)
        commands = [shlex.split(line) for line in output.partition("next:\n")[2].splitlines() if line]
        assert commands[0][:5] == ["footprint", "holdout", "--experiment", "stage4", "--candidate"]
        assert str(parse_candidate(commands[0][5])) == pick["candidate"]
        assert commands[1][:2] == ["footprint", "ship"]
    assert "the pick is not measured on them yet" in Path("report.html").read_text()

    for record in records():  # what the command leaves: an eval of every seed of the pick and of the base
        last = record.evals()[-1]
        if record.spec().arm in ("C2", "A0"):
            record.append(replace(last, metrics={**last.metrics, "exact_match": 0.25}), HOLDOUT)
    sync_all(Path("runs", "stage4"), os.environ["MLFLOW_TRACKING_URI"], "stage4")
    _, output, _ = own("pareto")
    said = flat(output)
    assert "footprint holdout" not in said and "held out" not in said
    assert "On held-out rows, which chose nothing (3 seeds): exact_match 0.250 [" in said
    assert "where it was chosen, the base alone 0.250" in said
    own("report", "--format", "markdown")
    assert "## The pick on held-out rows" in Path("report.md").read_text()
    body = json.loads(own("pareto", "--format", "json")[1])
    assert body["holdout"]["state"] == "measured" and body["pick"] == pick


def test_an_arm_outside_the_constraint_is_among_those_left_out(run: Run) -> None:
    assert run("report", "--format", "markdown", experiment="lost")[0] == ExitCode.CHECK_FAILED
    page = Path("report.md").read_text()
    left_out = page.partition("## What was left out, and why")[2].partition("\n## ")[0]
    assert "gain outside the constraint" in left_out and "C2" in left_out
    assert "Every arm was compared" not in page


def test_seeds_does_not_say_what_limits_a_study_without_a_pick(run: Run) -> None:
    _, output, _ = run("seeds", experiment="lost")
    assert "Nothing is picked yet: no candidate both shows a gain over the base alone and, at the level" in flat(output)
    assert "limit you" not in output and "Any number of" not in output


# ---------------------------------------------------------------- finalists
def add_reserve(rows: int = 96) -> None:
    """Give the baseline a reserve that it answered right, as a run of format 3 does."""
    base = next(one for one in records() if one.spec().placement.is_baseline)
    right = {f"r{number}": 1.0 for number in range(rows)}
    reserve = {
        "irrelevant_pass": RowResults(right),
        "hallucination": RowResults(dict.fromkeys(right, 0.0)),
    }
    base.append(replace(base.evals()[0], reserve=reserve))
    close_again(base)


def copy_anew(migrated_database: Path) -> None:
    """Copy the records to an empty store, for an ended trial is copied once."""
    shutil.copy(migrated_database, "mlflow.db")
    sync_all(Path("runs/stage4"), os.environ["MLFLOW_TRACKING_URI"], "stage4")


def keep_adapter(record: Record, step: int) -> None:
    with record.saving(f"{ADAPTERS}/step-{step}") as directory:
        (directory / "adapter_model.safetensors").write_bytes(b"weights")
    close_again(record)


def leave_finalist(migrated_database: Path) -> None:
    """Leave a reserve that C2 was not asked, with the adapters that can be."""
    add_reserve()
    for record in records():
        if record.spec().arm == "C2":
            keep_adapter(record, 60)
    copy_anew(migrated_database)


def close_again(record: Record) -> None:
    verdict = record.verdict()
    assert verdict is not None
    record.close(verdict)


def test_finalists_that_keep_their_adapters_are_asked_before_the_holdout(own: Run, migrated_database: Path) -> None:
    """Without an adapter of each seed a candidate cannot be asked, and is not named again and again."""
    write_json(Path("runs", "stage4", HOLDOUT_FILE), {})
    add_reserve()
    copy_anew(migrated_database)
    _, output, _ = own("pareto")
    assert "footprint finalists" not in output and "footprint holdout" in output
    for record in records():
        if record.spec().arm == "C2" or record.spec().name == "A1-s0":
            keep_adapter(record, 60)
    _, output, _ = own("pareto")
    commands = [shlex.split(line) for line in output.partition("next:\n")[2].splitlines() if line]
    assert [words[1] for words in commands if words[1] != "ship"] == ["finalists"], "the holdout waits for the pick"
    assert commands[0][4:6] == ["--candidate", "C2 @ 60"] and "A1 @ 60" not in commands[0]
    advised = json.loads(own("seeds", "--format", "json")[1])
    assert (advised["command"], advised["trials"]) == (commands[0], 0), "rows that are there come before new seeds"
    for record in records():
        if record.spec().arm == "C2":
            record.append(answering_all(record), FINALISTS)
    copy_anew(migrated_database)
    _, output, _ = own("pareto")
    assert "footprint finalists" not in output and "footprint holdout" in output
    assert json.loads(own("seeds", "--format", "json")[1])["command"][1:2] != ["finalists"]


def test_with_ask_finalists_they_are_asked_until_none_is_left(
    own: Run, migrated_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_finalist(migrated_database)
    ran: list[list[str]] = []

    def ask(words: list[str]) -> None:
        """Leave what `finalists` leaves."""
        ran.append(words)
        for record in records():
            if record.spec().arm == "C2":
                record.append(answering_all(record), FINALISTS)
        copy_anew(migrated_database)

    monkeypatch.setattr("analysis.report.next_commands.run_printed", ask)
    code, output, errors = own("pareto", "--ask-finalists")
    assert (code, [words[:2] for words in ran]) == (0, [["footprint", "finalists"]])
    assert "asking the finalists: footprint finalists" in errors and "footprint finalists" not in output
    assert json.loads(own("pareto", "--format", "json", "--ask-finalists")[1])["pick"], "JSON is all of stdout"
    assert len(ran) == 1


@pytest.mark.parametrize("code", [4, 6])
def test_a_finalist_that_cannot_be_asked_ends_the_command_with_its_code(
    own: Run, migrated_database: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    leave_finalist(migrated_database)
    monkeypatch.setattr(sys, "executable", shutil.which("sh"))
    monkeypatch.setattr("analysis.report.next_commands.finalists_command", lambda *_: f"python -c 'exit {code}'")
    assert own("pareto", "--ask-finalists")[0] == code


def test_once_the_pick_is_measured_on_the_holdout_no_finalist_is_asked(own: Run, migrated_database: Path) -> None:
    """More rows could change the pick, and the holdout would then have measured another."""
    write_json(Path("runs", "stage4", HOLDOUT_FILE), {})
    leave_finalist(migrated_database)
    assert "footprint finalists" in own("pareto")[1]
    for record in records():
        if record.spec().arm in ("C2", "A0"):
            record.append(record.evals()[-1], HOLDOUT)
    copy_anew(migrated_database)
    _, output, _ = own("pareto")
    assert output.partition("next:\n")[2].split("\n")[0] == "    footprint ship --experiment stage4 --out shipped"


def answering_all(record: Record) -> Measurement:
    last = record.evals()[-1]
    more = {f"r{number}": 1.0 for number in range(96)}
    rows = {
        **last.rows,
        "irrelevant_pass": RowResults({**last.rows["irrelevant_pass"].values, **more}),
        "hallucination": RowResults({**last.rows["hallucination"].values, **dict.fromkeys(more, 0.0)}),
    }
    return replace(last, rows=rows)


# ---------------------------------------------------------------- derived copies
def test_a_derived_copy_is_compared_and_its_answers_are_said_to_be_none(own: Run) -> None:
    for record in records():
        if record.spec().arm == "C2":
            record.append(replace(record.evals()[-1], scale="0.5"), DERIVED)
    sync_all(Path("runs", "stage4"), os.environ["MLFLOW_TRACKING_URI"], "stage4")
    code, output, _ = own("compare", "C2 @ 60 x 0.5", "A1")
    assert code == 0
    assert "Answers are not shown: C2 @ 60 x 0.5 is a derived copy, whose evals keep their results by row" in flat(
        output
    )


# ---------------------------------------------------------------- the report's effects
def test_the_report_answers_the_hypotheses_where_the_design_allows_it(own: Run) -> None:
    own("report", "--format", "markdown")
    page = Path("report.md").read_text()
    assert "what would decide it" in page and "| H1 |" in page and "| H4 |" in page
    few = [baseline(), *(one for one in trials(ARMS) if one.arm == "C2")]
    write_experiment(Path.cwd(), few, "one", os.environ["MLFLOW_TRACKING_URI"], probes=96)
    own("report", experiment="one")
    assert "Not estimated: effects need 4 trained trials" in Path("report.html").read_text()


# ---------------------------------------------------------------- old records
@pytest.mark.slow
def test_records_without_results_by_row_ship_what_is_named_alone(own: Run) -> None:
    for record in records():
        evals = [replace(one, rows={}) for one in record.measurements()]
        record.directory.joinpath("metrics.jsonl").write_text("".join(one.line() + "\n" for one in evals))
        record.directory.joinpath("manifest.json").unlink()
        record.close(record.verdict())  # type: ignore[arg-type] it has ended
    uri = f"sqlite:///{Path('old.db').absolute()}"
    sync_all(Path("runs", "stage4"), uri, "stage4")
    found = read_conclusion(ConclusionOptions("stage4", uri))
    with pytest.raises(UserError, match=r"no arm C2 of `stage4` has one.*no results by row") as refused:
        chosen(found, "C2")
    assert "--arm 'C2 @ " in str(refused.value.hint)
