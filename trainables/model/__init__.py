"""Loads the base, places LoRA on it, and optimizes the adapter.

- `base`: Loads the base: a frozen, possibly quantized model with its tokenizer and, if any, its image processor.
- `base_files`: The files of a base that decide a result, and their digest: weights, configuration, tokenizer,
  templates, processors.
- `checksums`: Checksums and memory size of the frozen base's tensors, including quantization state.
- `device_split`: Splits a base over several devices as accelerate does; no engine holds a base on more than one.
- `dropout`: Dropout whose masks depend only on seed, step, layer and rate, not on which trials share a forward pass.
- `families/`: Model families: one file for each, and the table of those that can be trained.
- `foreign_code`: Refuses a base whose configuration names code on the hub: transformers downloads a kernel and runs it.
- `live_bytes`: Counts the bytes of the tensors that are alive, and their peak: what a device must hold, without the
  process around.
- `lora`: Places LoRA on a base with PEFT, initializes it, checks the placement, and saves and loads adapters.
- `loading`: Loads the weights of a base with transformers, and checks what was loaded before anything uses it.
- `lora`: Places LoRA on a base with PEFT, checks the placement, and saves and loads adapters in PEFT's format.
- `module_kinds`: The kinds of linears in a block: attention or feed-forward, by the name of the module, fused or not.
- `optimizer`: The optimizer of one trial: AdamW with a learning rate per tower, and gradient clipping.
- `peft_files`: Names of the files in an adapter directory, and the prefix of PEFT's tensor names.
- `placement`: Resolves a placement: from the layers of each tower and the kind of linears to the exact modules that
  carry LoRA.
- `quantization`: The quantizations of the frozen base, in one table, and their bitsandbytes configurations.
- `residency`: Decides whether 4-bit weights stay quantized in memory, and dequantizes them once if not.
- `shared_files`: The files of shared weights: where they lie, who may write or remove them, and which nobody uses.
- `shared_weights`: The weights of a loaded base in a file that the engines of a node map, so that they are read and
  quantized once.
- `stored_base`: Checks a base before anything is loaded: its files, and that config.json and weights describe one
  model.
- `stored_quantization`: Tells in which quantization the weights of a base are stored, from config.json and the files'
  headers.
- `weight_files`: Reads which weights a base's directory holds, from the headers of its safetensors files and without
  torch.
- `weight_report`: Compares the weights of a base with those of its model, as read from files or as transformers
  reports them.
"""
