"""The text miniature: a real Qwen2 of 0.8 M parameters and the small world of shell instructions it was taught.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen2.5-Coder-7B-Instruct (brief 004).
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
