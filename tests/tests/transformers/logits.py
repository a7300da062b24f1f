"""Logits of checkpoints by transformers, in f32: those of tokens (i * 7919 + 13) % vocab_size, as raw floats in DIRECTORY/logits.f32.

usage: logits.py TOKENS DIRECTORY...
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

tokens = int(sys.argv[1])
torch.set_num_threads(1)
for directory in map(Path, sys.argv[2:]):
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    left = [info[what] for what in ("missing_keys", "unexpected_keys", "mismatched_keys")]
    assert not any(left), (directory, left)
    ids = torch.tensor([[(i * 7919 + 13) % model.config.vocab_size for i in range(tokens)]])
    with torch.no_grad():
        logits = model.eval()(ids).logits[0]
    (directory / "logits.f32").write_bytes(logits.float().contiguous().numpy().tobytes())
