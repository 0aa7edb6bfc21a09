"""The text miniature: a Qwen2 of 0.8 M parameters with a generated task of shell instructions.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen2.5-Coder-7B-Instruct.
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
