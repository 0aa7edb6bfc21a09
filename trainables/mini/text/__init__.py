"""The text miniature: a Qwen2 of 0.8 M parameters with a generated task of shell instructions.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen2.5-Coder-7B-Instruct.

- `build`: Trains the base of the text miniature, with the code of the other miniature.
- `datasets`: Writes the text miniature's data set: instructions to fine-tune on, and questions to measure forgetting.
- `defaults`: Training settings of the text miniature: those of its base, and the defaults of its sweeps.
- `model`: The text miniature's architecture: transformers' Qwen2 classes with small sizes.
- `world`: Generates the text miniature's prompts: shell instructions, small general questions, requests to decline.
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
