"""Judges public LoRA configurations of axolotl, ms-swift and LLaMA-Factory: which import, and why the others do not.

The files are read from git repositories and never copied; only the list with the verdicts is committed::

    python -m benchmarks.public_configs axolotl-ai-cloud/axolotl=DIR modelscope/ms-swift=DIR hiyouga/LLaMA-Factory=DIR

Each file is judged as if its base and rows were given (`--base`, `--train`, `--val`, `--ood`). The base is only a
config.json of the family that the model has, so what depends on files of the real base (the chat template, special
tokens, code of its own) is not judged. `VALUES` in a shell script are those that its shell would pass.
"""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
import yaml

from benchmarks.repositories import repositories
from sweeps.importers.base_checks import check_remote_code
from sweeps.importers.files import tool_of
from sweeps.importers.import_report import differences
from sweeps.importers.parsing import parse_config
from sweeps.importers.ranges import check_ranges
from sweeps.importers.settings import settings_of
from sweeps.importers.templates import check_template
from trainables.command import run
from trainables.errors import UserError
from trainables.io.strict_yaml import Document, parse_yaml
from trainables.model.families import FAMILIES

LIST = Path(__file__).with_name("public_configs.tsv")
ROWS = 1000  # of the training rows that are given
GIVEN = {"base": "--base", "train": "--train", "validation": "--val", "ood": "--ood"}
MOST_CHARACTERS = 400  # of a reason
TEXT = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "num_experts": 8, "num_local_experts": 8, "moe_intermediate_size": 1024}  # fmt: skip
VISION = {"text_config": TEXT, "vision_config": {"hidden_size": 1024, "embed_dim": 1024, "intermediate_size": 4096,
          "mlp_ratio": 4, "depth": 24, "num_hidden_layers": 24, "out_hidden_size": 4096,
          "deepstack_visual_indexes": [5, 11, 17]}}  # fmt: skip
QUANTIZED = re.compile(r"AWQ|GPTQ|BNB")
ARGUMENT = re.compile(r"--([a-z]\w*)")
ASSIGNMENT = re.compile(r"^(?:export )?(\w+)=(\d+)\s*\\?$", re.MULTILINE)
QUOTIENT = re.compile(r"\$\(expr (\d+) / (\d+)\)")


@dataclass(frozen=True)
class Line:
    """One configuration: where it is, its model, and what the importer says today."""

    repository: str
    commit: str
    path: str
    model: str
    family: str
    known_family: str
    verdict: str
    reason: str


def read_list(path: Path = LIST) -> list[Line]:
    """Return the committed list."""
    with path.open(encoding="utf-8", newline="") as file:
        return [Line(**row) for row in csv.DictReader(file, delimiter="\t")]


def judged(line: Line, text: str) -> Line:
    """Return the line with today's verdict on the file's text."""
    known = line.family in FAMILIES
    verdict, reason = "refused", f"the family {line.family} is not known"
    if known:
        verdict, reason = judgement(text, Path(line.path), line.family)
    if verdict == "imports" and QUANTIZED.search(line.model):
        reason = "; ".join(filter(None, ("with --base, as this base is quantized already", reason)))
    return Line(line.repository, line.commit, line.path, line.model, line.family, "yes" if known else "no", verdict,
                reason)  # fmt: skip


def judgement(text: str, path: Path, family: str) -> tuple[str, str]:
    """Return "imports" and by what results differ from the tool's, or "refused" and why."""
    has_vision = FAMILIES[family].sees or FAMILIES[family].decoder_types
    config = {"model_type": family, **(VISION if has_vision else TEXT)}
    try:
        document = shell_document(text, path) if path.suffix == ".sh" else parse_yaml(text, path)
        parsed = parse_config(document, tool_of(document), GIVEN)
        check_remote_code(parsed, config)
        with TemporaryDirectory() as empty:
            check_template(parsed, Path(empty), family)
        imported = settings_of(parsed, FAMILIES[family].towers(config), config, ROWS)
        check_ranges(parsed, imported)
    except UserError as error:
        return "refused", _cut("; ".join(_problems(error.message, path)))
    packed = ["packing: steps of packed sequences"] if parsed.value("packing") else []
    return "imports", _cut("; ".join([*packed, *differences(parsed, imported.settings)]))


def shell_document(text: str, path: Path) -> Document:
    """Return the arguments of the first command `swift sft` in a shell script as a configuration."""
    values = dict(ASSIGNMENT.findall(text))
    command = text[text.index("swift sft") :].replace("\\\n", " ").split("\n", 1)[0]
    for name, value in values.items():
        command = command.replace(f"${name}", value)
    command = QUOTIENT.sub(lambda found: str(int(found[1]) // int(found[2])), command)
    arguments: dict[str, list[Any]] = {}
    words: list[Any] = []
    for word in shlex.split(command)[2:]:
        key = ARGUMENT.fullmatch(word)
        if key:
            words = arguments.setdefault(key[1], [])
        else:
            words.append(word)
    keys = {key: _value(words) for key, words in arguments.items()}
    return parse_yaml(yaml.safe_dump(keys, sort_keys=False, allow_unicode=True), path)


def _value(words: list[str]) -> Any:
    # a flag without a value is true; numbers and booleans are written as texts on a command line
    values = [yaml.safe_load(word) if re.fullmatch(r"[-+.\d]+|true|false", word) else _number(word) for word in words]
    return values if len(values) > 1 else values[0] if values else True


def _number(word: str) -> Any:
    return float(word) if re.fullmatch(r"[-+]?\d+(\.\d+)?[eE][-+]?\d+", word) else word


def _problems(message: str, path: Path) -> Iterable[str]:
    lines = [line for line in message.splitlines() if not line.startswith("hint: ")]
    return [re.sub(rf"^{re.escape(str(path))}(:\d+)?: ", "", line) for line in lines]


def _cut(text: str) -> str:
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def totals(lines: Sequence[Line]) -> dict[str, int]:
    """Return the number of configurations, of those of known families, and of those that import."""
    known = [line for line in lines if line.known_family == "yes"]
    return {"all": len(lines), "known": len(known), "import": sum(line.verdict == "imports" for line in known)}


def main(
    directories: Annotated[list[str], typer.Argument(metavar="REPOSITORY=DIR...", help="Their git directories.")],
) -> None:
    """Judge every configuration of the list and write it again."""
    listed = read_list()
    found = repositories(directories, dict.fromkeys(line.repository for line in listed))
    lines = [judged(line, found[line.repository].file(line.path, line.commit)) for line in listed]
    with LIST.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(field.name for field in fields(Line))
        writer.writerows(astuple(line) for line in lines)
    typer.echo(totals(lines))


if __name__ == "__main__":
    run(main)
