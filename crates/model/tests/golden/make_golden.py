#!/usr/bin/env python3
"""Tiny random checkpoints of each family with the logits transformers computes for them in float32.

usage: make_golden.py [OUT_DIR [CASE...]]      (default: all cases, into the directory of this script)

Writes for every case OUT_DIR/<case>/: config.json, model.safetensors, tokens.json ([batch][seq]) and logits.f32
(little-endian float32, [batch, seq, vocab]).  The first six cases were written
with torch 2.15.0 and transformers 5.23.0, the others with 2.10.0 and 5.17.0.
"""
import json, pathlib, sys

import torch
from safetensors.torch import save_file
from transformers import (AutoModelForCausalLM, Exaone4Config, Gemma2Config, Gemma3TextConfig, GraniteConfig, LlamaConfig, MinistralConfig,
                          MistralConfig, Olmo2Config, Phi3Config, Qwen2Config, Qwen3Config, SmolLM3Config)

COMMON = dict(vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2)

NARROW = {**COMMON, "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "pad_token_id": 0}

# LongRoPE stretches 3 frequencies of 6 rotated components of 8, by one list up to 16 tokens and by another beyond.
LONG_ROPE = Phi3Config(**NARROW, tie_word_embeddings=True, original_max_position_embeddings=16, rope_parameters=dict(
    rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.75, short_factor=[1.0, 1.1, 1.25],
    long_factor=[1.5, 3.0, 7.0]))

CASES = {
    # name: (config, stored type, length of the two sequences)
    "llama": (LlamaConfig(**COMMON, tie_word_embeddings=False), torch.float32, 24),
    "llama3_tied_head_dim": (LlamaConfig(**COMMON, head_dim=32, tie_word_embeddings=True, rope_parameters=dict(
        rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=16)), torch.bfloat16, 40),
    "llama_linear_biases": (LlamaConfig(**COMMON, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
        rope_parameters=dict(rope_type="linear", rope_theta=5000.0, factor=4.0)), torch.float16, 24),
    "mistral_window": (MistralConfig(**COMMON, sliding_window=7, tie_word_embeddings=False), torch.bfloat16, 40),
    "qwen2": (Qwen2Config(**COMMON, tie_word_embeddings=True, use_sliding_window=False), torch.bfloat16, 24),
    "qwen2_window": (Qwen2Config(**{**COMMON, "num_hidden_layers": 3}, tie_word_embeddings=False, sliding_window=9,
        use_sliding_window=True, max_window_layers=1), torch.float16, 40),
    "ministral_window": (MinistralConfig(**NARROW, head_dim=16, sliding_window=7, tie_word_embeddings=False,
        layer_types=["full_attention", "sliding_attention"]), torch.bfloat16, 40),
    "qwen3": (Qwen3Config(**NARROW, head_dim=16, tie_word_embeddings=True), torch.bfloat16, 24),
    "phi3": (Phi3Config(**{**NARROW, "hidden_size": 64, "intermediate_size": 96}, tie_word_embeddings=False), torch.bfloat16, 24),
    "phi3_window": (Phi3Config(**NARROW, tie_word_embeddings=True, sliding_window=7), torch.float16, 40),
    "phi3_long_rope": (LONG_ROPE, torch.bfloat16, 40),
    "phi3_short_rope": (LONG_ROPE, torch.bfloat16, 16),
    # Caps that are felt.
    "gemma2": (Gemma2Config(**NARROW, head_dim=16, query_pre_attn_scalar=16, sliding_window=7, attn_logit_softcapping=3.0,
        final_logit_softcapping=4.0), torch.bfloat16, 40),
    "gemma2_scalar": (Gemma2Config(**{**NARROW, "num_hidden_layers": 1}, head_dim=8, query_pre_attn_scalar=30, attention_bias=True,
        sliding_window=64, attn_logit_softcapping=None, final_logit_softcapping=None), torch.bfloat16, 24),
    "gemma3": (Gemma3TextConfig(**{**NARROW, "num_hidden_layers": 3}, head_dim=16, query_pre_attn_scalar=16, sliding_window=7,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"], rope_parameters=dict(
            full_attention=dict(rope_type="linear", factor=8.0, rope_theta=50000.0),
            sliding_attention=dict(rope_type="default", rope_theta=10000.0))), torch.bfloat16, 40),
    "smollm3": (SmolLM3Config(**{**NARROW, "num_hidden_layers": 4}, tie_word_embeddings=True), torch.bfloat16, 24),
    "granite": (GraniteConfig(**NARROW, tie_word_embeddings=True, embedding_multiplier=6.0, residual_multiplier=0.3,
        attention_multiplier=0.2, logits_scaling=5.0), torch.bfloat16, 24),
    "olmo2": (Olmo2Config(**NARROW, tie_word_embeddings=False), torch.bfloat16, 24),
    "exaone4": (Exaone4Config(**NARROW, tie_word_embeddings=True, sliding_window=None, layer_types=["full_attention"] * 2, rope_parameters=dict(rope_type="llama3",
        rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)),
        torch.bfloat16, 40),
    "exaone4_window": (Exaone4Config(**NARROW, tie_word_embeddings=False, sliding_window=7, sliding_window_pattern=2),
        torch.bfloat16, 40),
}


def randomize(model, stored):
    """Weights large enough for attention to be far from uniform, and exact in the type they are stored in."""
    # Gemma stores the weights of norms without their 1.
    centre = 0.0 if model.config.model_type.startswith("gemma") else 1.0
    for name, p in model.named_parameters():
        if name.endswith("norm.weight"):
            p.data = centre + 0.2 * torch.randn_like(p)
        elif name.endswith("bias"):
            p.data = 0.3 * torch.randn_like(p)
        else:
            p.data = 1.2 * torch.randn_like(p) / p.shape[-1] ** 0.5
        p.data = p.data.to(stored).to(torch.float32)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent)
    wanted = sys.argv[2:]
    for number, (name, (config, stored, length)) in enumerate(CASES.items()):
        if wanted and name not in wanted:
            continue
        torch.manual_seed(number)
        config._attn_implementation = "eager"
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
        randomize(model, stored)
        tokens = torch.randint(0, config.vocab_size, (2, length))
        with torch.no_grad():
            logits = model(tokens).logits
        case = out / name
        case.mkdir(parents=True, exist_ok=True)
        config.architectures = [type(model).__name__]
        config.dtype = stored
        config.save_pretrained(case)
        tied = config.tie_word_embeddings
        state = {k: v.to(stored).contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}
        save_file(state, case / "model.safetensors", metadata={"format": "pt"})
        (case / "tokens.json").write_text(json.dumps(tokens.tolist()) + "\n")
        logits.contiguous().numpy().astype("<f4").tofile(case / "logits.f32")
        print(f"{name}: {sum(v.numel() for v in state.values())} parameters, logits {tuple(logits.shape)}, "
              f"standard deviation {logits.std():.3f}")


main()
