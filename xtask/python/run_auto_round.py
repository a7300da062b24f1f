"""AutoRound's INT4 symmetric, groups of 128: one line of JSON says how long it took.

python run_auto_round.py MODEL TEXT OUTPUT --iters 200 --samples 64 --seq-len 512 --threads 2
"""

import argparse
import json
import time

import torch
from auto_round import AutoRound
from transformers import AutoModelForCausalLM, AutoTokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("output")
    parser.add_argument("--iters", type=int, default=200)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(open(a.text).read(), add_special_tokens=False)["input_ids"]
    take = a.seq_len - 1
    rows = [[tokenizer.bos_token_id] + ids[i * take : (i + 1) * take] for i in range(a.samples)]
    rows = [torch.tensor([row]) for row in rows if len(row) == a.seq_len]
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    started = time.time()
    quantized = AutoRound(
        model,
        tokenizer,
        scheme="W4A16",
        dataset=rows,
        nsamples=len(rows),
        seqlen=a.seq_len,
        iters=a.iters,
        device_map="cpu",
        enable_torch_compile=False,
    ).quantize()
    seconds = time.time() - started
    # the values that the integers stand for, as plain weights
    model = quantized[0] if isinstance(quantized, tuple) else quantized
    model.save_pretrained(a.output)
    tokenizer.save_pretrained(a.output)
    print(json.dumps({"seconds": seconds, "samples": len(rows)}))


main()
