"""What `python -m benchmarks.gpu` measures on one device, without Ray and MLflow.

- `attribution`: Where the time of a step goes: kernels by kind, launches, waits of the host, the frozen trunk compiled.
- `budget`: The time budget of a run, and the sections that still fit.
- `evals`: What an eval costs, with drafts and decoded token by token.
- `modes`: Every quantization forward and backward, bitsandbytes' fused kernels, and dequantized weights.
- `packing`: A pass of several trials against each trial alone, beside the drift of another batch shape.
- `page`: Writes the page from the figures.
- `throughput`: Tokens a second and memory by the tokens of a micro-batch and by what is shared.
- `training`: Adapters on a base, and one step of a pass, without records, evals and guards.
"""
