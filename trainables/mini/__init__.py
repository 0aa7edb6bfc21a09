"""The miniature: a Qwen3-VL of 1.9 M parameters with a generated task, so that sweeps run on two CPU cores.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen3-VL-4B-Instruct.
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
