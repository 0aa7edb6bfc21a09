"""What a method of training is called, by the quantization of the base it trains on."""

METHODS = {"none": "LoRA", "int8": "LoRA on an int8 base", "fp4": "QLoRA", "nf4": "QLoRA", "nf4-double": "QLoRA"}
