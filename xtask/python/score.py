"""Perplexity, KL divergence from the original and same top-1 on the second halves of windows of held-out text, in PyTorch: a
line of JSON for every model.

python score.py ORIGINAL TEXT MODEL... --windows 100 --threads 2
"""

import argparse
import json

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

N_CTX = 512
HALF = N_CTX // 2
BATCH = 10


@torch.no_grad()
def log_probabilities(path, batches):
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    for batch in batches:
        yield torch.log_softmax(model(batch).logits[:, HALF - 1 : N_CTX - 1].double(), -1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("original")
    parser.add_argument("text")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--windows", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    tokenizer = AutoTokenizer.from_pretrained(a.original)
    ids = tokenizer(open(a.text).read(), add_special_tokens=False)["input_ids"]
    windows = torch.tensor(ids[: min(a.windows, len(ids) // N_CTX) * N_CTX]).view(-1, N_CTX)
    if tokenizer.bos_token_id is not None:
        windows[:, 0] = tokenizer.bos_token_id
    batches = windows.split(BATCH)
    reference = list(log_probabilities(a.original, batches))
    for path in a.models:
        loss = kl = same = count = 0
        for batch, base, found in zip(batches, reference, log_probabilities(path, batches)):
            next_tokens = batch[:, HALF:].unsqueeze(-1)
            loss -= found.gather(-1, next_tokens).sum().item()
            kl += (base.exp() * (base - found)).sum().item()
            same += (base.argmax(-1) == found.argmax(-1)).sum().item()
            count += next_tokens.numel()
        perplexity = torch.tensor(loss / count).exp().item()
        print(json.dumps({"perplexity": perplexity, "kl": kl / count, "top1": same / count}), flush=True)


main()
