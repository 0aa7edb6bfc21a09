"""Records and the frontier as pandas frames, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.errors import UserError
from trainables.mlflow_store import default_tracking_uri
from trainables.record import Record, records_under

if TYPE_CHECKING:
    import pandas as pd

NOT_COLUMNS = ("base", "train", "validation", "ood", "earlier", "placement", "init_from")


def records_of(experiment: str, storage: str | Path = "runs") -> list[Record]:
    """Return the records of an experiment, in the order of their names.

    Raises:
        UserError: the storage has no such experiment.

    >>> from analysis import records_of
    >>> [record.spec().name for record in records_of("stage4")]
    ['A0', 'A1', 'C2']
    """
    found = records_under(Path(storage) / experiment / "trials")
    if not found:
        raise UserError(f"{Path(storage) / experiment} must hold an experiment, but it has no trial",
                        f"footprint list --storage {storage}")  # fmt: skip
    return found


def trial_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row for each trial: settings, placement, verdict, and the metrics of its best eval as `best.…`.

    A trial without an admissible eval has no best metrics; one that still runs has no verdict.

    >>> from analysis import records_of, trial_frame
    >>> frame = trial_frame(records_of("stage4"))
    >>> frame[["name", "language", "rank", "verdict"]]
      name  language  rank    verdict
    0   A0         0    16  completed
    1   A1         2    16  completed
    2   C2         2    16  completed
    """
    import pandas as pd

    return pd.DataFrame([_trial(record) for record in records])


def eval_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return one row for each eval of each trial: the trial's name and id, the step, and the metrics.

    >>> from analysis import eval_frame, records_of
    >>> frame = eval_frame(records_of("stage4"))
    >>> frame.groupby("name")["exact_match"].max().round(2).to_dict()
    {'A0': 0.0, 'A1': 0.6, 'C2': 0.8}
    """
    import pandas as pd

    rows = [
        {"name": spec.name, "id": spec.trial_id, "step": one.step, **one.metrics}
        for record in records
        for spec in [record.spec()]
        for one in record.evals()
    ]
    return pd.DataFrame(rows)


def frontier_frame(experiment: str, tracking_uri: str = "", level: float = 0.9) -> pd.DataFrame:
    """Return one row for each placement of a study, as `pareto.csv` has it: estimates, intervals, and why or why not.

    Raises:
        UserError: the store does not answer, or has no such experiment.

    >>> from analysis import frontier_frame
    >>> frame = frontier_frame("stage4")
    >>> sorted(frame["placement"])
    ['A0', 'A1', 'C2']
    """
    import io

    import pandas as pd

    from analysis.options import ConclusionOptions
    from analysis.read_conclusion import read_conclusion
    from analysis.report.tables import as_csv

    asked = ConclusionOptions(experiment, tracking_uri or default_tracking_uri(), "", "", (), level)
    return pd.read_csv(io.StringIO(as_csv(read_conclusion(asked).info)))


def _trial(record: Record) -> dict[str, Any]:
    spec, verdict, best = record.spec(), record.verdict(), record.best()
    settings = spec.model_dump(mode="json", exclude=set(NOT_COLUMNS))
    return {
        "id": spec.trial_id,
        **settings,
        "language": spec.placement.language,
        "vision": spec.placement.vision,
        "verdict": None if verdict is None else str(verdict),
        "reason": None if verdict is None else verdict.reason,
        **({} if best is None else {"best.step": best.step, **{f"best.{key}": x for key, x in best.metrics.items()}}),
    }
