"""The miniature's tokenizer: byte-level BPE as in Qwen, in which every word of the generated texts is one token."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from trainables.mini.world import lexicon

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


END_OF_TEXT = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
VISION_START, VISION_END = "<|vision_start|>", "<|vision_end|>"
IMAGE_PAD, VIDEO_PAD = "<|image_pad|>", "<|video_pad|>"
TEXT_TOKENS = (END_OF_TEXT, "<|im_start|>", END_OF_TURN)
SPECIAL_TOKENS = (*TEXT_TOKENS, VISION_START, VISION_END, IMAGE_PAD, VIDEO_PAD)

# Qwen's pre-tokenization: contractions, words with one leading space, single digits, punctuation, line ends, spaces.
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

# Qwen3-VL's ChatML. Every turn is rendered independently, so a rendered prompt is a prefix of the whole rendered
# conversation, and training can mask the prompt by its length.
CHAT_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for part in message.content -%}
{%- if part.type == 'image' or 'image' in part or 'image_url' in part -%}
{{- '<|vision_start|><|image_pad|><|vision_end|>' -}}
{%- elif 'text' in part -%}
{{- part.text -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}
"""


def training_forms() -> list[str]:
    """List the words to merge: English ones with and without a leading space, Chinese ones and their characters."""
    words = lexicon()
    chinese = [word for word in words if not word.isascii()]
    english = [word for word in words if word.isascii()]
    # characters are repeated so that their bytes merge first; otherwise a merge could join bytes of two words
    characters = [character for word in chinese for character in word] * 8
    return [*characters, *chinese, *english, *(f" {word}" for word in english)]


def build(
    forms: Iterable[str] | None = None, special_tokens: tuple[str, ...] = SPECIAL_TOKENS
) -> PreTrainedTokenizerFast:
    """Build the tokenizer and its chat template; deterministic in `forms`, by default the miniature's words."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=2000,  # an upper bound: merging ends when every word is one token
        min_frequency=0,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(training_forms() if forms is None else forms, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special_tokens])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        extra_special_tokens=list(special_tokens[1:]),
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=4096,
        clean_up_tokenization_spaces=False,
    )
