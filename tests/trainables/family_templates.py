"""Chat templates of our own with the behaviour of the published ones: what each adds, trims, drops and refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

CHATML = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
# adds a system turn where a conversation has none
QWEN2_5 = (
    "{%- if messages[0].role != 'system' -%}{{- '<|im_start|>system\nYou are helpful.<|im_end|>\n' -}}{%- endif -%}"
    + CHATML
)
# drops the thoughts of earlier answers, and puts an empty block before a last answer without thoughts
QWEN3 = r"""{%- set ns = namespace(last=-1) -%}
{%- for m in messages -%}{%- if m.role == 'user' -%}{%- set ns.last = loop.index0 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set content = m.content -%}{%- set thought = '' -%}
{%- if '</think>' in content -%}
{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\n' -}}
{%- if loop.index0 > ns.last and (loop.last or thought) -%}
{{- '<think>\n' + thought.strip('\n') + '\n</think>\n\n' -}}
{%- endif -%}
{{- content + '<|im_end|>\n' -}}
{%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}
{%- if enable_thinking is defined and enable_thinking is false -%}{{- '<think>\n\n</think>\n\n' -}}{%- endif -%}
{%- endif -%}
"""
# asks for thoughts, whatever is passed
QWEN3_THINKING_2507 = QWEN3.partition("{%- if add_generation_prompt -%}")[0] + (
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}"
)
# content as text or as parts, nothing trimmed
QWEN3_VL = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}{%- if m.content is string -%}{{- m.content -}}"
    "{%- else -%}{%- for part in m.content -%}{%- if part.type == 'image' -%}"
    "{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}{%- else -%}{{- part.text -}}{%- endif -%}{%- endfor -%}"
    "{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
LLAMA3 = r"""{{- bos_token -}}{%- set day = strftime_now('%d %b %Y') if strftime_now is defined else '26 Jul 2024' -%}
{%- set first = messages[0].content | trim if messages[0].role == 'system' else '' -%}
{{- '<|start_header_id|>system<|end_header_id|>\n\nToday: ' + day + '\n\n' + first + '<|eot_id|>' -}}
{%- for m in messages -%}{%- if m.role != 'system' -%}
{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + (m.content | trim) + '<|eot_id|>' -}}
{%- endif -%}{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' -}}{%- endif -%}
"""
ALTERNATE = (
    "{%- for m in turns -%}{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}"
    "{{- raise_exception('roles must alternate') -}}{%- endif -%}"
)
MISTRAL_V1 = (
    "{{- bos_token -}}{%- set turns = messages -%}" + ALTERNATE + "{%- if m.role == 'user' -%}"
    "{{- '[INST] ' + m.content + ' [/INST]' -}}{%- else -%}{{- m.content + eos_token + ' ' -}}{%- endif -%}"
    "{%- endfor -%}"
)
# the system text goes to the last question
MISTRAL_V3 = (
    "{{- bos_token -}}{%- set first = messages[0].content if messages[0].role == 'system' else none -%}"
    "{%- set turns = messages[1:] if first else messages -%}" + ALTERNATE + "{%- if m.role == 'user' -%}"
    "{{- '[INST] ' + (first + '\n\n' if first and loop.index0 >= turns | length - 2 else '') -}}"
    "{{- m.content + '[/INST]' -}}{%- else -%}{{- ' ' + (m.content | trim) + eos_token -}}{%- endif -%}{%- endfor -%}"
)
MISTRAL_V7 = (
    "{{- bos_token -}}{%- for m in messages -%}{%- if m.role == 'system' -%}"
    "{{- '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' -}}{%- elif m.role == 'user' -%}"
    "{{- '[INST]' + m.content + '[/INST]' -}}{%- else -%}{{- m.content + eos_token -}}{%- endif -%}{%- endfor -%}"
)
GEMMA = (
    "{{- bos_token -}}{%- if messages[0].role == 'system' -%}{{- raise_exception('System role not supported') -}}"
    "{%- endif -%}{%- set turns = messages -%}" + ALTERNATE + "{{- '<start_of_turn>' -}}"
    "{{- ('model' if m.role == 'assistant' else m.role) + '\n' + (m.content | trim) + '<end_of_turn>\n' -}}"
    "{%- endfor -%}{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}"
)
# the system text goes to the first question
GEMMA3 = (
    "{{- bos_token -}}{%- set first = messages[0].content + '\n\n' if messages[0].role == 'system' else '' -%}"
    "{%- set turns = messages[1:] if first else messages -%}" + ALTERNATE + "{{- '<start_of_turn>' -}}"
    "{{- ('model' if m.role == 'assistant' else m.role) + '\n' + (first if loop.first else '') -}}"
    "{{- (m.content | trim) + '<end_of_turn>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<start_of_turn>model\n' -}}{%- endif -%}"
)
# a document ends with another token than a turn
PHI = (
    "{%- for m in messages -%}{{- '<|' + m.role + '|>\n' + m.content + '<|end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>\n' -}}{%- else -%}{{- eos_token -}}{%- endif -%}"
)
SMOLLM = (
    "{%- for m in messages -%}{%- if loop.first and messages[0].role != 'system' -%}"
    "{{- '<|im_start|>system\nYou are SmolLM.<|im_end|>\n' -}}{%- endif -%}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' + '\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
# Phi-4's; its first release began an answer after every question, whether it was asked for or not
PHI4 = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}"
)
PHI4_FIRST = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{{- m.content + '<|im_end|>' -}}{%- else -%}"
    "{{- '<|im_start|>' + m.role + '<|im_sep|>' + m.content + '<|im_end|>' -}}"
    "{%- if m.role == 'user' -%}{{- '<|im_start|>assistant<|im_sep|>' -}}{%- endif -%}{%- endif -%}{%- endfor -%}"
)
PHI4_MINI = (
    "{%- for m in messages -%}{{- '<|' + m.role + '|>' + m.content + '<|end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- else -%}{{- eos_token -}}{%- endif -%}"
)
# nothing ends an answer: the next turn begins
GLM4 = (
    "{{- '[gMASK]<sop>' -}}{%- for m in messages -%}{{- '<|' + m.role + '|>\n' + m.content -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
# the mode and the date are in the system turn; an answer in the mode without thoughts has an empty block of them
SMOLLM3 = r"""{%- set mode = '/think' if enable_thinking | default(true) else '/no_think' -%}
{%- set own = messages[0].content if messages[0].role == 'system' else 'You are SmolLM.' -%}
{%- set mode = '/no_think' if '/no_think' in own else '/think' if '/think' in own else mode -%}
{{- '<|im_start|>system
Today: ' + strftime_now('%d %B %Y') + '
Reasoning Mode: ' + mode + '

' -}}
{{- own.replace('/no_think', '').replace('/think', '').rstrip() + '

<|im_end|>
' -}}
{%- set begin = '<|im_start|>assistant
' + ('' if mode == '/think' else '<think>

</think>
') -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '<|im_start|>user
' + m.content + '<|im_end|>
' -}}
{%- elif m.role == 'assistant' -%}{{- begin + m.content.lstrip('
') + '<|im_end|>
' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- begin -}}{%- endif -%}
"""
# as published, the marks hold the header and the line end of an answer too
SMOLLM3_MARKED = SMOLLM3.replace("{{- begin + m.content", "{%- generation -%}{{- begin + m.content").replace(
    "+ '<|im_end|>\n' -}}{%- endif -%}", "+ '<|im_end|>\n' -}}{%- endgeneration -%}{%- endif -%}"
)
# a system turn with the date where a conversation has none
MISTRAL_SMALL3 = (
    "{{- bos_token -}}{%- set own = messages[0].role == 'system' -%}"
    "{{- '[SYSTEM_PROMPT]' + (messages[0].content if own else 'Today is ' + strftime_now('%Y-%m-%d')) -}}"
    "{{- '[/SYSTEM_PROMPT]' -}}{%- set turns = messages[1:] if own else messages -%}"
    + ALTERNATE
    + "{%- if m.role == 'user' -%}{{- '[INST]' + m.content + '[/INST]' -}}{%- else -%}{{- m.content + eos_token -}}"
    "{%- endif -%}{%- endfor -%}"
)


@dataclass(frozen=True)
class FamilyTemplate:
    """A template, its special tokens, and what it writes around an answer: `before` the last one, and its `end`.

    The `end` of an `unended` one is that of the family: the template writes nothing after an answer.
    """

    template: str
    end: str
    before: str
    eos: str
    bos: str | None = None
    added: tuple[str, ...] = ()
    system: bool = True
    model_type: str = "qwen3"
    unended: bool = False


IM = ("<|im_start|>", "<|endoftext|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>")
IM_BEFORE = "<|im_start|>assistant\n"
INST = ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CALLS]")
HEADER = "<|start_header_id|>assistant<|end_header_id|>\n\n"
TURN = ("<start_of_turn>",)
PHI4_BEFORE, PHI4_TOKENS = "<|im_start|>assistant<|im_sep|>", ("<|im_start|>", "<|im_sep|>")
ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM_TOKENS = ("[gMASK]", "<sop>", *ROLES)
FAMILY_TEMPLATES = {
    "chatml": FamilyTemplate(CHATML, "<|im_end|>", IM_BEFORE, "<|im_end|>", added=IM),
    "qwen2.5": FamilyTemplate(QWEN2_5, "<|im_end|>", IM_BEFORE, "<|im_end|>", added=IM),
    "qwen3": FamilyTemplate(QWEN3, "<|im_end|>", f"{IM_BEFORE}<think>\n\n</think>\n\n", "<|im_end|>", added=IM),
    "qwen3-instruct-2507": FamilyTemplate(CHATML, "<|im_end|>", IM_BEFORE, "<|im_end|>", added=IM),
    "qwen3-thinking-2507": FamilyTemplate(
        QWEN3_THINKING_2507, "<|im_end|>", f"{IM_BEFORE}<think>\n\n</think>\n\n", "<|im_end|>", added=IM
    ),
    "qwen3-vl": FamilyTemplate(QWEN3_VL, "<|im_end|>", IM_BEFORE, "<|im_end|>", added=IM),
    "llama3": FamilyTemplate(
        LLAMA3, "<|eot_id|>", HEADER, "<|end_of_text|>", "<|begin_of_text|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eom_id|>", "<|python_tag|>"),
    ),
    "mistral-v1": FamilyTemplate(MISTRAL_V1, "</s>", " [/INST]", "</s>", "<s>", system=False),
    "mistral-v3": FamilyTemplate(MISTRAL_V3, "</s>", "[/INST]", "</s>", "<s>", INST),
    "mistral-v7": FamilyTemplate(MISTRAL_V7, "</s>", "[/INST]", "</s>", "<s>", INST),
    "gemma": FamilyTemplate(GEMMA, "<end_of_turn>", "<start_of_turn>model\n", "<eos>", "<bos>", TURN, system=False),
    "gemma3": FamilyTemplate(GEMMA3, "<end_of_turn>", "<start_of_turn>model\n", "<eos>", "<bos>", TURN),
    "phi": FamilyTemplate(PHI, "<|end|>", "<|assistant|>\n", "<|endoftext|>",
                          added=("<|system|>", "<|user|>", "<|assistant|>")),
    "phi4": FamilyTemplate(PHI4, "<|im_end|>", PHI4_BEFORE, "<|im_end|>", "<|endoftext|>", PHI4_TOKENS, True, "phi3"),
    "phi4-first": FamilyTemplate(PHI4_FIRST, "<|im_end|>", PHI4_BEFORE, "<|im_end|>", "<|endoftext|>", PHI4_TOKENS,
                                 True, "phi3"),
    "phi4-mini": FamilyTemplate(PHI4_MINI, "<|end|>", "<|assistant|>", "<|endoftext|>", "<|endoftext|>", ROLES[:3],
                                True, "phi3"),
    "glm4": FamilyTemplate(GLM4, "<|user|>", "<|assistant|>", "<|endoftext|>", None, GLM_TOKENS, True, "glm4", True),
    "smollm3": FamilyTemplate(SMOLLM3, "<|im_end|>", f"{IM_BEFORE}<think>\n\n</think>\n", "<|im_end|>",
                              "<|begin_of_text|>", ("<|im_start|>",), True, "smollm3"),
    "mistral-small3": FamilyTemplate(MISTRAL_SMALL3, "</s>", "[/INST]", "</s>", "<s>", INST, True, "mistral3"),
    "smollm": FamilyTemplate(SMOLLM, "<|im_end|>", IM_BEFORE, "<|im_end|>", added=IM),
}  # fmt: skip
OF_ANSWERS = ("<|box_start|>", "<|box_end|>", "<tool_call>", "</tool_call>")


def tokenizer_of(family: FamilyTemplate, template: str | None = None) -> Any:
    """Make a byte-level tokenizer with the special tokens of a family and words that begin with a space."""
    from transformers import AddedToken

    from trainables.mini import tokenizer as mini

    names = [one for one in (family.end, family.eos, family.bos, *family.added, *OF_ANSWERS) if one]
    tokens = tuple(dict.fromkeys(["<pad>", *names]))
    tokenizer = mini.build(["five", "blue", " five", " blue", "say", " say"], tokens)
    tokenizer.add_tokens([AddedToken(one, special=False, normalized=False) for one in ("<think>", "</think>")])
    tokenizer.eos_token, tokenizer.bos_token, tokenizer.pad_token = family.eos, family.bos, "<pad>"
    tokenizer.chat_template = template or family.template
    return tokenizer
