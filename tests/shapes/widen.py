#!/usr/bin/env python3
"""Gives a llama checkpoint another hidden size and width of its MLPs without changing what it computes, to measure what shapes
that K-quants do not fit cost a trained model.

Some channels, drawn by lot, are doubled: of the residual stream each copy carries the value by the square root of 2, in the MLP each
copy counts half. Weights read and written accordingly, norms and their epsilon are adjusted for the wider mean.

usage: widen.py MODEL OUT HIDDEN_SIZE INTERMEDIATE_SIZE
Needs numpy and safetensors.
"""
import json, pathlib, shutil, sys
import numpy as np
from safetensors.numpy import load_file, save_file

model, out, hidden, inner = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
lot = np.random.default_rng(0)
config = json.loads((model / "config.json").read_text())


def doubled(old, new):
    """For every new channel the old one it copies, in random order, and how many copies that has."""
    copied = np.concatenate([np.arange(old), lot.choice(old, new - old, replace=False)])
    copied = copied[lot.permutation(new)]
    return copied, np.bincount(copied, minlength=old)[copied].astype(np.float32)


stream, copies = doubled(config["hidden_size"], hidden)
neurons, counts = doubled(config["intermediate_size"], inner)
root = np.sqrt(copies)
widened = {}
for name, weight in load_file(model / "model.safetensors").items():
    weight = weight.astype(np.float32)
    if name.endswith("norm.weight"):
        weight = weight[stream] * np.sqrt(config["hidden_size"] / hidden)
    elif "o_proj" in name or "down_proj" in name:
        weight = weight[stream] / root[:, None]
        if "down_proj" in name:
            weight = weight[:, neurons] / counts
    else:
        weight = weight[:, stream] / root
        if "gate_proj" in name or "up_proj" in name:
            weight = weight[neurons]
    widened[name] = np.ascontiguousarray(weight.astype(np.float16))

out.mkdir(parents=True, exist_ok=True)
save_file(widened, out / "model.safetensors", metadata={"format": "pt"})
config["rms_norm_eps"] *= config["hidden_size"] / hidden
config |= {"hidden_size": hidden, "intermediate_size": inner}
(out / "config.json").write_text(json.dumps(config, indent=1))
for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]:
    shutil.copy(model / name, out / name)
