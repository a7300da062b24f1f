"""llm-compressor's INT4 symmetric, groups of 128, or its pruning by half: one line of JSON says how long it took.

python run_llm_compressor.py MODEL TEXT OUTPUT --method gptq|awq|wanda|sparsegpt --samples 64 --seq-len 512 --threads 2
"""

import argparse
import json
import time

import torch
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier
from transformers import AutoModelForCausalLM, AutoTokenizer


PRUNING = ["wanda", "sparsegpt"]


def modifier(method, mask_structure):
    if method in PRUNING:
        from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier

        kind = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}[method]
        # its "Linear" matches no layer of these modifiers
        return kind(sparsity=0.5, mask_structure=mask_structure, targets=["re:.*_proj$"])
    settings = dict(targets="Linear", scheme="W4A16", ignore=["lm_head"])
    if method == "gptq":
        return GPTQModifier(**settings)
    from llmcompressor.modifiers.awq import AWQModifier

    return AWQModifier(**settings)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("output")
    parser.add_argument("--method", default="gptq", choices=["gptq", "awq", *PRUNING])
    parser.add_argument("--mask-structure", default="0:0")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=512)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(open(a.text).read(), add_special_tokens=False)["input_ids"]
    take = a.seq_len - 1
    rows = [[tokenizer.bos_token_id] + ids[i * take : (i + 1) * take] for i in range(a.samples)]
    rows = [row for row in rows if len(row) == a.seq_len]
    data = Dataset.from_dict({"input_ids": rows, "attention_mask": [[1] * a.seq_len] * len(rows)})
    # in f32: half precision is slower by far on a CPU
    model = AutoModelForCausalLM.from_pretrained(a.model, dtype=torch.float32)
    started = time.time()
    oneshot(
        model=model,
        dataset=data,
        recipe=modifier(a.method, a.mask_structure),
        max_seq_length=a.seq_len,
        num_calibration_samples=len(rows),
    )
    seconds = time.time() - started
    model.save_pretrained(a.output, save_compressed=a.method not in PRUNING)
    tokenizer.save_pretrained(a.output)
    print(json.dumps({"seconds": seconds, "samples": len(rows)}))


main()
