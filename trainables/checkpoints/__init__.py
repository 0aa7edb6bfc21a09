"""Adapters on disk: reads, checks and describes them, and finds their base and their parents.

- `adapter`: Reads configuration, tensor names and shapes of a saved LoRA directory, without torch.
- `adapter_config`: Reads and checks PEFT's `adapter_config.json`, because PEFT's own errors name neither file nor
  key.
- `base_fit`: Checks a saved adapter against the base it is to be continued on: PEFT must load all of it, and change
  nothing else.
- `base_lookup`: Finds the base model directory of an adapter.
- `compatibility`: Checks whether a trial can continue a saved LoRA adapter; reads the adapter's files before anything
  is loaded.
- `directory`: Checks that a directory holds an adapter in safetensors, and says what it holds otherwise.
- `lineage`: Finds the trial that wrote an adapter, its eval at that step, and the ancestors of a continued adapter.
- `manifest`: Compares the files of an adapter directory with its manifest.
- `names`: Explains tensor names of an adapter that its base does not have, and that PEFT therefore does not load.
- `peft_reference`: Builds the PEFT model of an adapter's configuration and base on torch's meta device, without
  weights.
- `plain_lora`: The list of keys and values of `adapter_config.json` at which an adapter is plain LoRA, as PEFT
  computes it.
- `provenance`: Writes `provenance.json` and a model card next to an adapter's weights.
- `targets`: Which modules of a base an adapter's configuration adapts, as PEFT decides it, without importing PEFT.
- `tensor_file`: Reads the tensors of a safetensors file as float32 arrays, without torch; numpy itself has no bfloat16.
- `verification`: Checks that a directory holds one complete, trained and trainable adapter.
"""
