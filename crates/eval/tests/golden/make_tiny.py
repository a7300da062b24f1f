"""Writes tiny.json: what transformers finds for models/tiny on a short text, and for its copy in bfloat16.

    python3 make_tiny.py ../../../../models/tiny > tiny.json

Needs torch and transformers. The base model is models/tiny in float32; the other has every matrix rounded to bfloat16 and
back. Both run in float32, on windows of llama-perplexity's protocol: BOS in place of each window's first token, the second
half scored.
"""

import json
import sys

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

N_CTX, BOS = 48, 0
TEXT = """The harbour was quiet when the two brothers came down to the water. "You said there would be a boat," said the
younger, and he looked along the wall where nothing moved but the gulls. The other did not answer him at once. He had
counted on the ferryman, who owed their father money, and on the tide, which owed nobody anything. "There was a boat," he
said at last. "There will be one again." They sat down on their bags and waited for the light. Behind them the town began to
wake: a door, a dog, a woman calling a name. Neither of them turned round. When the sun stood over the lighthouse the younger
brother laughed, for no reason that he could have given, and threw his hat into the sea. "Now you will have to swim for it,"
said the elder; and that, in the end, was what they both did, though it was for another hat, and many years afterwards."""

directory = sys.argv[1]
tokenizer = PreTrainedTokenizerFast(tokenizer_file=directory + "/tokenizer.json")
tokens = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
windows = torch.tensor(tokens[: len(tokens) // N_CTX * N_CTX]).view(-1, N_CTX)
assert len(windows) >= 2
inputs = windows.clone()
inputs[:, 0] = BOS
scored = slice(N_CTX // 2, N_CTX - 1)
targets = windows[:, N_CTX // 2 + 1 :].reshape(-1)


@torch.no_grad()
def logits(rounded):
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    if rounded:
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.copy_(parameter.bfloat16().float())
    return model(inputs).logits[:, scored].double().reshape(len(targets), -1)


base, model = logits(False), logits(True)
log_p, log_q = F.log_softmax(base, -1), F.log_softmax(model, -1)
print(
    json.dumps(
        {
            "n_ctx": N_CTX,
            "bos": BOS,
            "tokens": tokens,
            "base_nll": F.nll_loss(log_p, targets, reduction="none").tolist(),
            "nll": F.nll_loss(log_q, targets, reduction="none").tolist(),
            "kl": F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).tolist(),
        },
        separators=(",", ":"),
    )
)
