"""Maps names of chat templates to the bases that ship them; a trial always uses its base's own template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sweeps.importers.parsing import ParsedConfig
from sweeps.importers.rules import Accepts
from trainables.errors import UserError
from trainables.io.files import FileDamaged, read_json

CHATML, LLAMA3, INST, GEMMA = "<|im_start|>", "<|start_header_id|>", "[INST]", "<start_of_turn>"
PHI_END, PHI_SEPARATOR, GLM_START = "<|end|>", "<|im_sep|>", "[gMASK]"
KEYS = ("template", "chat_template")
REASON = "the base's own chat template is used"


@dataclass(frozen=True)
class Template:
    """A named template: `mark` is a text that the base's own template must contain, `families` its model types.

    Empty families allow any model type.
    """

    mark: str = ""
    families: tuple[str, ...] = ()


OWN = Template()
QWEN2, QWEN3, QWEN3_VL = (Template(CHATML, (family,)) for family in ("qwen2", "qwen3", "qwen3_vl"))
QWEN2_VL = Template(CHATML, ("qwen2_vl", "qwen2_5_vl"))
SHARED = {
    "chatml": Template(CHATML), "llama3": Template(LLAMA3, ("llama",)), "gemma": Template(GEMMA, ("gemma", "gemma2",
    "gemma3_text")), "qwen3": QWEN3, "qwen2_vl": QWEN2_VL, "qwen3_vl": QWEN3_VL,
}  # fmt: skip
MISTRAL = Template(INST, ("mistral", "ministral", "ministral3", "mistral3"))
PHI3, PHI4 = Template(PHI_END, ("phi3",)), Template(PHI_SEPARATOR, ("phi3",))
GLM4 = Template(GLM_START, ("glm", "glm4"))
LLAMA2 = Template(INST, ("llama",))
GEMMA3 = Template(GEMMA, ("gemma3_text", "gemma3"))
QWEN3_5, GEMMA4 = Template(CHATML, ("qwen3_5", "qwen3_5_text")), Template("<|turn>", ("gemma4",))

# `default` is not listed: it is `Human:` and `Assistant:` in LLaMA-Factory, `### Human:` in ms-swift
TEMPLATES: Mapping[str, Mapping[str, Template]] = {
    "axolotl": {
        **SHARED, "tokenizer_default": OWN, "tokenizer_default_fallback_chatml": OWN, "qwen_25": QWEN2,
        "gemma3": GEMMA3, "gemma4": GEMMA4, "qwen3_5": QWEN3_5, "phi_3": PHI3, "phi_35": PHI3,
        **dict.fromkeys(("mistral_v1", "mistral_v2v3", "mistral_v3_tekken", "mistral_v7_tekken"), MISTRAL),
    },
    "ms-swift": {
        **SHARED, "qwen": QWEN2, "qwen2_5": QWEN2, "qwen2_5_vl": QWEN2_VL, "qwen3_nothinking": QWEN3,
        "llama": LLAMA2, "llama3_2": SHARED["llama3"], "gemma3_text": GEMMA3, "phi3": PHI3, "phi4": PHI4,
        "glm4": GLM4,
    },
    "llamafactory": {
        **SHARED, "qwen": QWEN2, "qwen3_nothink": QWEN3, "qwen3_vl_nothink": QWEN3_VL, "llama2": LLAMA2,
        "mistral": MISTRAL, "mistral_small": MISTRAL, "phi": PHI3, "phi4": PHI4, "glm4": GLM4,
        "gemma2": Template(GEMMA, ("gemma2",)), "gemma3": GEMMA3,
    },
}  # fmt: skip


def template_of(tool: str) -> Accepts:
    """Return the rule of `tool`'s chat template key; `check_template` later compares it with the base."""
    return Accepts(
        dict.fromkeys(TEMPLATES[tool], REASON), "only the base's own chat template is used",
        "name the base's own template, or remove the key, then the tool uses the base's own; `default` is not the "
        "base's own in LLaMA-Factory and ms-swift",
    )  # fmt: skip


def check_template(parsed: ParsedConfig, base: Path, model_type: str) -> None:
    """Refuse a template that is not the base's own.

    Raises:
        UserError: names file, line and key.
    """
    own = _own_of(base)
    for line in parsed.lines:
        named = TEMPLATES[parsed.tool.name].get(line.value) if isinstance(line.value, str) else None
        if line.key.rsplit(".", 1)[-1] not in KEYS or named is None:
            continue
        if named.families and model_type not in named.families:
            found = f"it is that of {', '.join(named.families)} and the base is a {model_type}"
        elif own and named.mark not in own:
            found = f"the base's own template has no `{named.mark}`"
        else:
            continue
        raise UserError(
            f"{parsed.document.path}:{line.number}: `{line.key}` must be the base's own chat template, but "
            f"`{line.value}` is not: {found}",
            "remove the key, or use the base that this template belongs to",
        )


def _own_of(base: Path) -> str:
    """Return the base's own template; empty if there is none, which is reported when rows are rendered."""
    jinja, settings = base / "chat_template.jinja", base / "tokenizer_config.json"
    if jinja.is_file():
        return jinja.read_text(encoding="utf-8", errors="replace")
    try:
        own = read_json(settings).get("chat_template") if settings.is_file() else None
    except FileDamaged:
        return ""  # loading the tokenizer reports it
    return own if isinstance(own, str) else ""
