"""Keys of an entry of axolotl's `datasets` and `test_datasets`."""

from __future__ import annotations

from sweeps.importers.no_effect import (
    ROW_FORMATS,
    prompt_format,
    speakers,
    trained_roles,
    turn_keys,
)
from sweeps.importers.rules import Accepts, CheckedBy, Differs, Ignored, KeyRule, Sets, off
from sweeps.importers.shared import AS_HERE, REMOTE_CODE, SPEED
from sweeps.importers.templates import template_of
from sweeps.importers.values import text

TEMPLATE = template_of("axolotl")
HUB_DATA = "rows are read from local files"
ALPACA = Differs("axolotl renders rows in its own prompt format, alpaca's under `### Instruction:`; here the "
                 "base's own chat template renders them")  # fmt: skip
OTHER_COLUMNS = Accepts({}, "columns must have their usual names", "rename them in the rows")

DATASET: dict[str, KeyRule] = {
    "path": Sets("path", text, needed=True),
    "type": Accepts(
        {**dict.fromkeys(("completion", "chat_template", "sharegpt"), ROW_FORMATS), "alpaca": ALPACA},
        "another prompt format gives other rows",
        "write the rows as `messages`, `text` or `prompt` and `response`; or give rows with --train and --val",
    ),
    "field": Accepts({"text": ROW_FORMATS}, "a completion is read from `text`", "rename the field to text in the rows"),
    "field_messages": Accepts(
        dict.fromkeys(("messages", "conversations"), ROW_FORMATS), "turns are read from `messages` or `conversations`"
    ),
    "ds_type": Accepts({"json": "rows are JSONL"}, "rows are JSONL", "write the rows as JSONL"),
    "split": Accepts({"train": "a local file has only this split"}, HUB_DATA, "name the file of that split"),
    "chat_template": TEMPLATE,
    "roles": CheckedBy(speakers),
    "roles_to_train": CheckedBy(trained_roles),
    "train_on_eos": Accepts({"turn": AS_HERE}, "the end of every assistant turn is supervised", "train_on_eos: turn"),
    "train_on_eot": Accepts({"turn": AS_HERE}, "the end of every assistant turn is supervised", "train_on_eot: turn"),
    "message_property_mappings": CheckedBy(turn_keys),
    "message_field_role": Accepts(dict.fromkeys(("role", "from"), ROW_FORMATS), "a turn has `role` or `from`"),
    "message_field_content": Accepts(dict.fromkeys(("content", "value"), ROW_FORMATS), "a turn has `content` or "
                                     "`value`"),
    "field_system": Accepts({"system": ROW_FORMATS}, "a system turn is read from `system`"),
    "field_tools": Ignored("tool calls are not supported: rows with them are refused"),
    "drop_system_message": off("system turns of the rows are kept", "remove the turns from the rows"),
    "split_thinking": off("the base's own template renders the rows unchanged", "change the rows"),
    **dict.fromkeys(("conversation", "format", "no_input_format"), Accepts({}, "only the base's own chat template is "
                                                                          "used", "write the rows as `messages`")),
    **dict.fromkeys(("field_human", "field_model", "field_instruction", "field_input", "field_output",
                     "message_field_training", "message_field_training_detail", "input_format", "input_transform"),
                    OTHER_COLUMNS),
    "trust_remote_code": REMOTE_CODE,
    **dict.fromkeys(("name", "revision", "data_files"), Accepts({}, HUB_DATA, "name the file in `path`")),
    **dict.fromkeys(("shards", "shards_idx"), Accepts({}, "the whole file is read", "write a smaller file")),
    "preprocess_shards": Ignored(SPEED),
}  # fmt: skip

# of an entry whose rows the command line replaces, these keys still say how rows are rendered and trained on
STILL: dict[str, KeyRule] = {
    "type": CheckedBy(prompt_format),
    **{key: DATASET[key] for key in ("chat_template", "roles_to_train", "train_on_eos", "train_on_eot")},
}
