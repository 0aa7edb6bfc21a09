"""Adapters on disk: reads, checks and describes them, and finds their base and their parents.

- `adapter`: Reads configuration, tensor names and shapes of a saved LoRA directory, without loading tensors.
- `adapter_config`: Reads and checks PEFT's `adapter_config.json`, because PEFT's own errors name neither file nor
  key.
- `base_lookup`: Finds the base model directory of an adapter.
- `compatibility`: Checks whether a trial can continue a saved LoRA adapter; reads the adapter's files before anything
  is loaded.
- `lineage`: Finds the trial that wrote an adapter, its eval at that step, and the ancestors of a continued adapter.
- `manifest`: Compares the files of an adapter directory with its manifest.
- `peft_reference`: Builds the PEFT model of an adapter's configuration and base on torch's meta device, without
  weights.
- `provenance`: Writes `provenance.json` and a model card next to an adapter's weights.
- `verification`: Checks that a directory holds one complete, trained and trainable adapter.
"""
