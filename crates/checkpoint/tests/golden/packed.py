"""Checkpoints packed by compressed-tensors itself, for `tests/packed.rs`.

    python packed.py packed

Needs torch, safetensors and compressed-tensors (made with 0.19.0). Every directory holds one weight `m.weight` in the
pack-quantized layout, and as `m.expected` what compressed-tensors unpacks it to. Weights, scales and zero points are noise:
what is compared is the layout and the arithmetic of reading it.
"""

import json
import pathlib
import sys

import torch
from compressed_tensors.compressors.pack_quantized.base import PackedQuantizationCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file

CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 96, "intermediate_size": 96,
    "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 64,
}
CASES = {
    "int2_g32_asymmetric": (2, 32, False, torch.bfloat16),
    "int3_g32": (3, 32, True, torch.float16),
    "int3_channel_asymmetric": (3, None, False, torch.float16),
    "int4_g32": (4, 32, True, torch.bfloat16),
    "int4_g32_asymmetric": (4, 32, False, torch.float16),
    "int8_channel": (8, None, True, torch.float32),
    "int8_g32_asymmetric": (8, 32, False, torch.bfloat16),
}
ROWS, COLUMNS = 41, 96


def main(out):
    torch.manual_seed(5)
    for name, (bits, group, symmetric, dtype) in CASES.items():
        args = QuantizationArgs(
            num_bits=bits, type="int", symmetric=symmetric, strategy="group" if group else "channel", group_size=group
        )
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        groups = COLUMNS // (group or COLUMNS)
        low, high = -(1 << (bits - 1)), 1 << (bits - 1)
        state = {
            "weight": torch.randn(ROWS, COLUMNS).to(dtype),
            "weight_scale": (torch.rand(ROWS, groups) * 2 / high + 0.01).to(dtype),
            "weight_zero_point": torch.randint(low, high, (ROWS, groups), dtype=torch.int8),
        }
        if symmetric:
            state["weight_zero_point"].zero_()
        packed = PackedQuantizationCompressor.compress(state, scheme)
        expected = PackedQuantizationCompressor.decompress(packed, scheme)["weight"]
        tensors = {f"m.{part}": value.contiguous() for part, value in packed.items() if value is not None}
        if symmetric:
            tensors.pop("m.weight_zero_point", None)
        directory = pathlib.Path(out) / name
        directory.mkdir(parents=True, exist_ok=True)
        save_file({**tensors, "m.expected": expected.contiguous()}, directory / "model.safetensors", {"format": "pt"})
        quantization = {
            "quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
            "config_groups": {"group_0": json.loads(scheme.model_dump_json())}, "ignore": ["lm_head"],
        }
        config = {**CONFIG, "quantization_config": quantization}
        (directory / "config.json").write_text(json.dumps(config, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
