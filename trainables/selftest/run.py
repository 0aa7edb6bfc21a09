"""The self-test: three optimizer steps before a trial trains, which check that it is the requested one.

Two steps on rows with pictures and one on rows of text alone use the trial's own adapter and optimizer, which are then
restored bit for bit. A worker tests an arm once: repeats under other seeds share the result.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from trainables.checkpoints.lineage import parent_eval
from trainables.data.encoding import collate
from trainables.engine import Engine
from trainables.evaluation.evaluator import label_logits
from trainables.health.checks import Finding, judge_handover
from trainables.health.monitor import dead_modules, reached_towers
from trainables.io.files import write_json
from trainables.model.checksums import base_checksums
from trainables.model.families import TOWERS, TowerName
from trainables.model.lora import Adapter
from trainables.model.optimizer import Optimizer
from trainables.record import Record
from trainables.selftest.judge import BatchFacts, SelfTestFacts, TowerFacts, judge_batches, judge_reload, judge_selftest
from trainables.selftest.reload import Reloader
from trainables.selftest.rows import image_rows, text_rows
from trainables.selftest.snapshot import Snapshot
from trainables.spec import TrialSpec, canonical_json

SELFTEST_FILE = "battery.json"
MACHINE_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)
# what PyTorch raises as a plain RuntimeError when a device or its memory fails
MACHINE_WORDS = ("out of memory", "can't allocate memory", "CUDA error", "cuDNN error")


class ProbeStepRaised(Exception):
    """Forward or backward of a probe step raised: the arm cannot be trained, however often it is tried."""


@dataclass
class SelfTest:
    """Proves the arms of one engine, each distinct arm once; `reloader` loads what they save in another process."""

    engine: Engine
    reloader: Reloader | None = None
    proved: dict[str, str] = field(default_factory=dict)

    def prove(
        self, spec: TrialSpec, record: Record, adapter: Adapter, optimizer: Optimizer, step: int = 0
    ) -> Finding | None:
        """Run the self-test, keep its numbers in the record, and return what is wrong; a proved arm costs nothing.

        `step` is where the trial stands: at 0 a continued adapter is held against its parent.

        Raises:
            UserError: a probe row cannot be encoded.
        """
        arm = arm_of(spec)
        if arm in self.proved:
            write_json(record.directory / SELFTEST_FILE, {"proved_by": self.proved[arm]})
            return None
        began = time.perf_counter()
        probe = _Probe(self.engine, spec, adapter, optimizer)
        finding, facts = judge_batches(probe.batch_facts(), uniform_loss(self.engine)), None
        if finding is None:
            handover = judge_from(spec, self.engine) if step == 0 else None
            try:
                facts = probe.run(self.reloader, handover)
                finding = judge_selftest(facts) or (judge_reload(facts.reload) if facts.reload else None)
            except ProbeStepRaised as error:
                finding = Finding("probe_step", "invalid", 0, str(error))
        numbers = asdict(facts) if facts else {"batches": {k: asdict(one) for k, one in probe.batch_facts().items()}}
        kept = {"seconds": time.perf_counter() - began, "finding": finding and asdict(finding), **numbers}
        write_json(record.directory / SELFTEST_FILE, _plain(kept))
        if finding is None or finding.level == "degraded":
            self.proved[arm] = record.name
        return finding or (facts.handover if facts else None)  # a handover that only drifted is a label


def arm_of(spec: TrialSpec) -> str:
    """Return what two trials share when one self-test serves both: all that decides a result but the seeds."""
    values = spec.identity()
    return canonical_json({key: value for key, value in values.items() if key not in ("seed", "data_seed")})


def is_the_machines(error: RuntimeError) -> bool:
    """True when an error tells of a device or of memory, which says nothing about the arm."""
    return isinstance(error, MACHINE_ERRORS) or any(words in str(error) for words in MACHINE_WORDS)


class _Probe:
    def __init__(self, engine: Engine, spec: TrialSpec, adapter: Adapter, optimizer: Optimizer) -> None:
        self.engine, self.spec, self.adapter, self.optimizer = engine, spec, adapter, optimizer
        self.rows = {"image": image_rows(engine, spec), "text": text_rows(engine, spec)}
        self.batches = {
            name: collate(rows, engine.encoder, engine.base.device, pad_left=False)
            for name, rows in self.rows.items()
            if rows
        }
        self.losses: dict[str, list[float]] = {name: [] for name in self.batches}
        self.dead: dict[str, list[str]] = {"lora_A": [], "lora_B": []}
        # where warm-up ends the schedule's factor is 1: the probe steps are made at the configured rates
        self.peak_step = math.ceil(spec.warmup_ratio * spec.steps)

    def run(self, reloader: Reloader | None, handover: Finding | None) -> SelfTestFacts:
        """Make the three steps and measure what `selftest/judge.py` judges; adapter and optimizer are put back."""
        saved = Snapshot.of(self.adapter, self.optimizer)
        try:
            return replace(self._measured(saved, reloader), handover=handover)
        finally:
            saved.put_back(self.adapter, self.optimizer)
            self.engine.base.model.eval()

    def batch_facts(self) -> dict[str, BatchFacts]:
        """Describe the probe batches, with the losses of the steps made so far."""
        return {name: self._batch_facts(name) for name in self.batches}

    def _measured(self, saved: Snapshot, reloader: Reloader | None) -> SelfTestFacts:
        first = next(iter(self.batches), None)
        before, (_, again) = self._logits(first), self._logits(first)
        saved.put_back_flags(self.adapter)
        base = base_checksums(self.engine.base.model)
        moved = self._steps(saved)
        after = self._logits(first)
        changed = sorted(name for name, value in base_checksums(self.engine.base.model).items() if base[name] != value)
        towers = self._towers(saved, moved)
        reloaded = None
        if reloader and first and not any(self.dead.values()) and math.isfinite(_gap(*after)):
            reloaded = reloader.compare(self.adapter, self.batches[first], after[0], after[1])
        saved.put_back(self.adapter, self.optimizer)
        return SelfTestFacts(
            **_adapter_facts(self.adapter, self.optimizer, saved.trainable),
            changed_base=tuple(changed),
            towers=towers,
            batches=self.batch_facts(),
            uniform_loss=uniform_loss(self.engine),
            fresh_adapter=self.spec.init_from is None and saved.is_fresh(),
            fresh_optimizer=not saved.moments,
            noise=_gap(before[1], again),
            effect_before=_gap(before[0], before[1]),
            effect_after=_gap(*after),
            changed_after=not torch.equal(after[0], before[0]),
            restored=saved.equals(self.adapter, self.optimizer),
            reload=reloaded,
        )

    def _steps(self, saved: Snapshot) -> dict[str, float]:
        first_move: dict[str, float] = {}
        order = ("image", "image", "text") if "image" in self.batches else ("text",) * 3
        for number, name in enumerate((one for one in order if one in self.batches), start=1):
            self._backward(name, number)
            reached = reached_towers(self.adapter, self.batches[name].inputs.get("pixel_values") is not None)
            if number <= 2:
                factor = "lora_B" if number == 1 else "lora_A"
                self.dead[factor] = dead_modules(self.adapter, reached, factor)
            self.optimizer.step(self.peak_step)
            if number == 1:
                first_move = {tower: self._largest_move(saved, tower) for tower in TOWERS}
        return first_move

    def _backward(self, name: str, number: int) -> None:
        base, batch = self.engine.base, self.batches[name]
        base.model.train()
        self.adapter.masks.step, self.adapter.masks.micro_step = 0, number
        try:
            logits, targets = label_logits(base, batch)
            loss = cross_entropy(logits, targets, reduction="sum") / max(1, len(targets))
            if loss.requires_grad:  # a graph that was cut has no backward; its gradients are found missing
                loss.backward()
        except RuntimeError as error:
            if is_the_machines(error):
                raise
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ProbeStepRaised(f"{name} batch: probe step {number} raised {said}") from error
        self.losses[name].append(float(loss.detach()))
        base.model.eval()

    @torch.no_grad()
    def _logits(self, name: str | None) -> tuple[torch.Tensor, torch.Tensor]:
        if name is None:
            return torch.zeros(1), torch.zeros(1)
        on, _ = label_logits(self.engine.base, self.batches[name])
        with self.adapter.peft_model.disable_adapter():
            off, _ = label_logits(self.engine.base, self.batches[name])
        return on, off

    def _largest_move(self, saved: Snapshot, tower: TowerName) -> float:
        moves = [
            float((p.detach() - saved.weights[name]).abs().max())
            for name, p in self.adapter.parameters(tower)
            if ".lora_B." in name
        ]
        return max(moves, default=0.0)

    def _towers(self, saved: Snapshot, moved: Mapping[str, float]) -> dict[str, TowerFacts]:
        wrapped = {name for name, module in self.adapter.peft_model.named_modules() if hasattr(module, "lora_A")}
        held = {id(p) for group in self.optimizer.adamw.param_groups for p in group["params"]}
        rates = {group["tower"]: float(group["lr"]) for group in self.optimizer.adamw.param_groups}
        found: dict[str, TowerFacts] = {}
        for tower in reached_towers(self.adapter, has_images=True):
            linears, own = self.adapter.placement.linears[tower], self.adapter.parameters(tower)
            prefixes = tuple(f"base_model.model.{linear.name}." for linear in linears)
            found[tower] = TowerFacts(
                expected_modules=len(linears),
                adapted_modules=sum(f"base_model.model.{linear.name}" in wrapped for linear in linears),
                expected_parameters=self.adapter.placement.parameters(tower, self.spec.rank),
                trainable_parameters=sum(p.numel() for name, p in own if saved.trainable[name]),
                optimized_parameters=sum(p.numel() for _, p in own if id(p) in held),
                configured_rate=self.spec.learning_rate if tower == "language" else self.spec.vision_learning_rate,
                rate=rates.get(tower, 0.0),
                dead_b=tuple(name for name in self.dead["lora_B"] if name.startswith(prefixes)),
                dead_a=tuple(name for name in self.dead["lora_A"] if name.startswith(prefixes)),
                unmoved=tuple(name for name, p in own if torch.equal(p.detach(), saved.weights[name])),
                first_move=moved.get(tower, 0.0),
            )
        return found

    def _batch_facts(self, name: str) -> BatchFacts:
        batch, rows, encoder = self.batches[name], self.rows[name], self.engine.encoder
        grid, mask = batch.inputs.get("image_grid_thw"), batch.inputs["attention_mask"]
        tokens, features = 0, 0
        if grid is not None:
            tokens = int((batch.inputs["input_ids"] == encoder.image_token_id).sum())
            features = int(grid.prod(dim=-1).sum()) // encoder.image_processor.merge_size**2
        return BatchFacts(
            rows=len(rows),
            images=sum(len(row.views) for row in rows),
            image_tokens=tokens,
            image_features=features,
            tokens=int(mask.sum()),
            padding_tokens=int((mask == 0).sum()),
            supervised_tokens=batch.supervised_tokens,
            losses=tuple(self.losses[name]),
            trained_before=name != next(iter(self.batches)),
        )


def judge_from(spec: TrialSpec, engine: Engine) -> Finding | None:
    """Hold a continued adapter's eval loss before training against its parent's last, where that is known."""
    parent = parent_eval(spec)
    return None if parent is None else judge_handover(parent.loss, engine.evaluator.stage_loss(parent.stage))


def uniform_loss(engine: Engine) -> float:
    """Return what blind guessing scores: ln(vocabulary), in nats per token."""
    return math.log(engine.base.model.config.get_text_config().vocab_size)


def _adapter_facts(adapter: Adapter, optimizer: Optimizer, trainable: Mapping[str, bool]) -> dict[str, Any]:
    own, names = {id(p) for _, p in adapter.trained()}, {name for name, _ in adapter.trained()}
    held = [p for group in optimizer.adamw.param_groups for p in group["params"]]
    foreign = [name for name, trains in trainable.items() if trains and name not in names]
    return {
        "adapters": tuple(adapter.peft_model.peft_config),
        "active_adapters": tuple(adapter.peft_model.active_adapters),
        "foreign_trainable": tuple(foreign),
        "foreign_optimized": sum(id(p) not in own for p in held),
    }


def _gap(on: torch.Tensor, off: torch.Tensor) -> float:
    return float((on - off).abs().max())


def _plain(values: Any) -> Any:
    # a record holds no NaN; what is not finite is kept as its name
    if isinstance(values, dict):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_plain(value) for value in values]
    return repr(values) if isinstance(values, float) and not math.isfinite(values) else values
