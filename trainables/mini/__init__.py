"""The miniature: a real Qwen3-VL of 1.9 M parameters and the small world it was taught, for sweeps on two CPU cores.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen3-VL-4B-Instruct.
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
