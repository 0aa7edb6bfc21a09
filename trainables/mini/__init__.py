"""The miniature: a Qwen3-VL of 1.9 M parameters with a generated task, so that sweeps run on two CPU cores.

`base/` is an ordinary Hugging Face directory, loaded by the code that loads Qwen/Qwen3-VL-4B-Instruct.

- `build`: Trains the miniature base from scratch on generated examples and saves it as a Hugging Face model.
- `capacities`: Measures the miniature's capacities by greedy generation on examples from held-out seeds.
- `datasets`: Writes the miniature's data set: cabinets to fine-tune on, and out-of-distribution rows to measure
  forgetting.
- `defaults`: Training settings of the miniature: those of its base, and the defaults of its sweeps.
- `model`: The miniature's architecture: transformers' Qwen3-VL classes with small sizes.
- `pictures`: Draws the miniature's pictures: each kind is one function from a random generator to 64 x 64 RGB pixels.
- `show`: Writes sample pictures and rows of the miniature for visual inspection.
- `stages`: Three curriculum stages of the miniature's task, each with its own splits: cabinets in good, dim and poor
  light.
- `text/`: The text miniature: a Qwen2 of 0.8 M parameters with a generated task of shell instructions.
- `tokenizer`: The miniature's tokenizer: byte-level BPE as in Qwen, in which every word of the generated texts is one
  token.
- `world`: Generates the miniature's prompts, with or without a picture, each with its only correct answer.
"""

from pathlib import Path

BASE_DIRECTORY = Path(__file__).parent / "base"
