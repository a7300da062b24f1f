"""Writes strided.json: perplexities of models/tiny by transformers, with the strided windows of its guide "Perplexity of
fixed-length models" (docs/source/en/perplexity.md).

    python3 make_strided.py ../../../../models/tiny > strided.json

Needs torch and transformers. The text is that of make_tiny.py, with BOS (token 0) in front of it and, as the model's own tokenizer
has it, without. Windows, labels and loss are
the guide's: of each window transformers itself takes the loss, the mean over the labels that are not -100 after its own shift by
one. `perplexity` is e to that loss times the number of those labels, summed over the windows and divided by the number of all;
`guide_perplexity` is the figure of the guide's listing, which weighs a window's loss by one label less than it has. A byte-level
token's spelling has a letter for each of its bytes: `bits_per_byte` is of those of the tokens that are scored.
"""

import json
import math
import sys

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

BOS = 0
CASES = [(48, 16), (48, 20), (48, 48), (96, 33), (400, 100)]
TEXT = open("make_tiny.py").read().split('"""')[3]

directory = sys.argv[1]
tokenizer = PreTrainedTokenizerFast(tokenizer_file=directory + "/tokenizer.json")
text_tokens = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()


@torch.no_grad()
def strided(tokens, n_ctx, stride):
    ids = torch.tensor([tokens])
    total, labels_in_all, guide_total, guide_labels, windows, previous_end, letters = 0.0, 0, 0.0, 0, 0, 0, 0
    for begin in range(0, len(tokens), stride):
        end = min(begin + n_ctx, len(tokens))
        scored = end - previous_end
        inputs = ids[:, begin:end]
        labels = inputs.clone()
        labels[:, :-scored] = -100
        valid = int((labels[:, 1:] != -100).sum())
        if valid:
            loss = model(inputs, labels=labels).loss.double().item()
            total, labels_in_all, windows = total + loss * valid, labels_in_all + valid, windows + 1
            scored_ids = labels[0, 1:][labels[0, 1:] != -100].tolist()
            letters += sum(map(len, tokenizer.convert_ids_to_tokens(scored_ids)))
            weight = int((labels != -100).sum()) - 1
            guide_total, guide_labels = guide_total + loss * weight, guide_labels + weight
        previous_end = end
        if end == len(tokens):
            break
    return {
        "n_ctx": n_ctx,
        "stride": stride,
        "windows": windows,
        "tokens": labels_in_all,
        "bits_per_byte": total / math.log(2) / letters,
        "perplexity": math.exp(total / labels_in_all),
        "guide_perplexity": math.exp(guide_total / guide_labels),
    }


def figures(tokens):
    return {"tokens": tokens, "cases": [strided(tokens, *case) for case in CASES]}


golden = {"text": TEXT, "bos": BOS, "with_bos": figures([BOS] + text_tokens), "without_bos": figures(text_tokens)}
print(json.dumps(golden, separators=(",", ":")))
