"""The self-test: three steps before training check adapter, optimizer, and that the frozen base does not change.

Two steps use rows with images, one uses text rows. They run on the trial's adapter and optimizer, whose state is then
restored exactly. A worker tests each arm once; trials that differ only in seed share the result.
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
from trainables.io.checksums import canonical_json
from trainables.io.files import write_json
from trainables.model.checksums import base_checksums
from trainables.model.families import TOWERS, TowerName
from trainables.model.lora import Adapter, adapted
from trainables.model.optimizer import Optimizer
from trainables.record import Record
from trainables.selftest.judge import BatchFacts, SelfTestFacts, TowerFacts, judge_batches, judge_reload, judge_selftest
from trainables.selftest.reload import Reloader
from trainables.selftest.rows import image_rows, text_rows
from trainables.selftest.snapshot import Snapshot
from trainables.spec import TrialSpec

SELFTEST_FILE = "battery.json"
DEVICE_ERRORS = (torch.OutOfMemoryError, torch.AcceleratorError)
# in messages of RuntimeErrors that PyTorch raises when a device or its memory fails
DEVICE_ERROR_WORDS = ("out of memory", "can't allocate memory", "CUDA error", "cuDNN error")


class ProbeStepRaised(Exception):
    """Forward or backward of a probe step raised an error that a retry would raise again."""


@dataclass
class SelfTest:
    """Tests each arm of one engine once; `reloader` loads the saved adapters in another process."""

    engine: Engine
    reloader: Reloader | None = None
    proved: dict[str, str] = field(default_factory=dict)

    def prove(
        self, spec: TrialSpec, record: Record, adapter: Adapter, optimizer: Optimizer, step: int = 0
    ) -> Finding | None:
        """Test the arm unless it has passed before, write the results to the record, and return a finding, if any.

        `step` is the current step of the trial; at 0 a continued adapter is compared with its parent.

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
            handover = judge_parent_loss(spec, self.engine) if step == 0 else None
            try:
                facts = probe.run(self.reloader, handover)
                finding = judge_selftest(facts) or (judge_reload(facts.reload) if facts.reload else None)
            except ProbeStepRaised as error:
                finding = Finding("probe_step", "invalid", 0, str(error))
        numbers = asdict(facts) if facts else {"batches": {k: asdict(one) for k, one in probe.batch_facts().items()}}
        kept = {"seconds": time.perf_counter() - began, "finding": finding and asdict(finding), **numbers}
        write_json(record.directory / SELFTEST_FILE, _as_json(kept))
        if finding is None or finding.level == "degraded":
            self.proved[arm] = record.name
        return finding or (facts.handover if facts else None)  # a degraded handover only labels the trial


def arm_of(spec: TrialSpec) -> str:
    """Return the values that trials with the same self-test have in common: all of their identity except the seeds."""
    values = spec.identity()
    return canonical_json({key: value for key, value in values.items() if key not in ("seed", "data_seed")})


def is_device_error(error: RuntimeError) -> bool:
    """True when an error comes from a device or its memory, and not from the arm."""
    return isinstance(error, DEVICE_ERRORS) or any(words in str(error) for words in DEVICE_ERROR_WORDS)


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
        # at the end of warm-up the schedule's factor is 1, so the probe steps use the configured rates
        self.peak_step = math.ceil(spec.warmup_ratio * spec.steps)

    def run(self, reloader: Reloader | None, handover: Finding | None) -> SelfTestFacts:
        """Run the three steps, restore adapter and optimizer, and return the values that `judge.py` checks."""
        saved = Snapshot.of(self.adapter, self.optimizer)
        try:
            return replace(self._measured(saved, reloader), handover=handover)
        finally:
            saved.put_back(self.adapter, self.optimizer)
            self.engine.base.model.eval()

    def batch_facts(self) -> dict[str, BatchFacts]:
        """Return the counts of the probe batches, and the losses of the steps so far."""
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
        if reloader and first and not any(self.dead.values()) and math.isfinite(_largest_difference(*after)):
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
            noise=_largest_difference(before[1], again),
            effect_before=_largest_difference(before[0], before[1]),
            effect_after=_largest_difference(*after),
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
            if loss.requires_grad:  # otherwise the gradients are missing, which a later check reports
                loss.backward()
        except RuntimeError as error:
            if is_device_error(error):
                raise
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise ProbeStepRaised(f"{name} batch: probe step {number} raised {reason}") from error
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
        wrapped = {one.name for one in adapted(self.adapter.peft_model).values()}
        held = {id(p) for group in self.optimizer.adamw.param_groups for p in group["params"]}
        rates = {group["tower"]: float(group["lr"]) for group in self.optimizer.adamw.param_groups}
        found: dict[str, TowerFacts] = {}
        for tower in reached_towers(self.adapter, has_images=True):
            linears, own = self.adapter.placement.linears[tower], self.adapter.parameters(tower)
            names = {name for name, _ in own}
            found[tower] = TowerFacts(
                expected_modules=len(linears),
                adapted_modules=sum(linear.name in wrapped for linear in linears),
                expected_parameters=self.adapter.placement.parameters(tower, self.spec.rank),
                trainable_parameters=sum(p.numel() for name, p in own if saved.trainable[name]),
                optimized_parameters=sum(p.numel() for _, p in own if id(p) in held),
                configured_rate=self.spec.learning_rate if tower == "language" else self.spec.vision_learning_rate,
                rate=rates.get(tower, 0.0),
                dead_b=tuple(name for name in self.dead["lora_B"] if name in names),
                dead_a=tuple(name for name in self.dead["lora_A"] if name in names),
                unmoved=tuple(name for name, p in own if torch.equal(p.detach(), saved.weights[name])),
                first_move=moved.get(tower, 0.0),
            )
        return found

    def _batch_facts(self, name: str) -> BatchFacts:
        batch, rows, encoder = self.batches[name], self.rows[name], self.engine.encoder
        mask = batch.inputs["attention_mask"]
        tokens = int((batch.inputs["input_ids"] == encoder.image_token_id).sum())
        features = sum(encoder.pixels(view).tokens for row in rows for view in row.views)
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


def judge_parent_loss(spec: TrialSpec, engine: Engine) -> Finding | None:
    """Compare the eval loss of a continued adapter before training with the last one of its parent, if known."""
    parent = parent_eval(spec)
    return None if parent is None else judge_handover(parent.loss, engine.evaluator.stage_loss(parent.stage))


def uniform_loss(engine: Engine) -> float:
    """Return the loss of uniform guessing: ln(vocabulary), in nats per token."""
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


def _largest_difference(on: torch.Tensor, off: torch.Tensor) -> float:
    return float((on - off).abs().max())


def _as_json(values: Any) -> Any:
    # JSON has no NaN: numbers that are not finite become text
    if isinstance(values, dict):
        return {key: _as_json(value) for key, value in values.items()}
    if isinstance(values, (list, tuple)):
        return [_as_json(value) for value in values]
    return repr(values) if isinstance(values, float) and not math.isfinite(values) else values
