"""Which modules of a base an adapter's configuration adapts, as PEFT decides it, without importing PEFT.

PEFT wraps the modules that `target_modules` matches and loads tensors for these alone. It drops the tensors of all
other modules without an error. See `check_target_module_exists` in `peft/tuners/tuners_utils.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

ALL_LINEAR = "all-linear"
LAYER_NUMBER = r".*?\.[^.]*\.(?P<index>\d+)\."  # the first number in a name
Names = str | tuple[str, ...]


@dataclass(frozen=True)
class Targets:
    """The keys of a configuration that choose modules: expressions as text, lists of names as tuples.

    `modules` is None if the configuration leaves the choice to PEFT; `layers` is None for all layers.
    """

    modules: Names | None
    excluded: Names = ()
    layers: tuple[int, ...] | None = None
    layers_patterns: tuple[str, ...] = ()

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Targets:
        """Take the targets from a configuration that `read_adapter_config` has checked."""
        layers, patterns = config.get("layers_to_transform"), config.get("layers_pattern") or ()
        return cls(
            modules=_names(config.get("target_modules")),
            excluded=_names(config.get("exclude_modules")) or (),
            layers=None if layers in (None, []) else (layers,) if isinstance(layers, int) else tuple(layers),
            layers_patterns=(patterns,) if isinstance(patterns, str) else tuple(patterns),
        )

    @property
    def is_all_linear(self) -> bool:
        """True for PEFT's short form of all linear layers but the head."""
        return isinstance(self.modules, str) and self.modules.lower() == ALL_LINEAR

    def adapted(self, modules: Iterable[str]) -> frozenset[str]:
        """Return those of the modules that PEFT adapts; with `all-linear`, they must be linear layers, no head."""
        is_target, is_excluded = self._matcher(), _matcher(self.excluded)
        return frozenset(name for name in modules if is_target(name) and not is_excluded(name))

    def _matcher(self) -> Callable[[str], bool]:
        if self.is_all_linear:
            return lambda _: True
        matches = _matcher(self.modules or ())
        if self.layers is None or isinstance(self.modules, str):
            return matches
        whole, in_layers = frozenset(self.modules or ()), self._in_layers()
        return lambda name: name in whole or (matches(name) and in_layers(name))

    def _in_layers(self) -> Callable[[str], bool]:
        wanted = set(self.layers or ())
        patterns = [rf"(?:^|.*?\.){one}\.(?P<index>\d+)\." for one in self.layers_patterns] or [LAYER_NUMBER]
        expressions = [re.compile(one) for one in patterns]

        def test(name: str) -> bool:
            found = next((match for one in expressions if (match := one.match(name))), None)
            return found is not None and int(found["index"]) in wanted

        return test


def _names(value: Any) -> Names | None:
    return value if value is None or isinstance(value, str) else tuple(value)


def _matcher(names: Names) -> Callable[[str], bool]:
    """Return a test of a module's name: by an expression, or by whole names and by their last parts."""
    if isinstance(names, str) and names:
        expression = re.compile(names)
        return lambda name: expression.fullmatch(name) is not None
    whole, ends = frozenset(names), tuple(f".{one}" for one in names)
    return lambda name: name in whole or name.endswith(ends)
