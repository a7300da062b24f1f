"""A training run of PyTorch and transformers in float32: training.json.

    python make_training.py        (torch, transformers)

The teacher is models/tiny; the student has its first and last block. 20 steps of AdamW on two sequences each; the losses, and of the
first step the gradient of every weight: its norm and 16 of its values, evenly spaced.
"""

import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
STEPS, SEQ, BATCH, WARMUP, LR, DECAY, CLIP, TEMPERATURE, ALPHA = 20, 48, 2, 3, 1e-3, 0.1, 1.0, 2.0, 0.1

model = lambda: AutoModelForCausalLM.from_pretrained(ROOT / "models/tiny", dtype=torch.float32, attn_implementation="eager")
teacher, student = model().eval(), model()
student.model.layers = torch.nn.ModuleList([student.model.layers[0], student.model.layers[3]])
text = next((ROOT / "calibration/data").glob("english*")).read_text()[:20000]
ids = AutoTokenizer.from_pretrained(ROOT / "models/tiny")(text, add_special_tokens=False)["input_ids"]
sequences = [ids[i * SEQ : (i + 1) * SEQ] for i in range(STEPS * BATCH)]
assert len(sequences[-1]) == SEQ

decayed = [p for n, p in student.named_parameters() if p.dim() == 2 and "embed" not in n]
others = [p for n, p in student.named_parameters() if not (p.dim() == 2 and "embed" not in n)]
optimizer = torch.optim.AdamW(
    [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}], lr=LR, betas=(0.9, 0.95), eps=1e-8)


def rate(step):
    if step < WARMUP:
        return (step + 1) / (WARMUP + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


losses, norms, gradients = [], [], {}
for step in range(STEPS):
    tokens = torch.tensor(sequences[step * BATCH : (step + 1) * BATCH])
    with torch.no_grad():
        p = F.log_softmax(teacher(tokens).logits[:, :-1] / TEMPERATURE, -1)
    logits = student(tokens).logits[:, :-1]
    q = F.log_softmax(logits / TEMPERATURE, -1)
    soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean()
    hard = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    loss = (1 - ALPHA) * soft + ALPHA * hard
    optimizer.zero_grad()
    loss.backward()
    if step == 0:
        for name, p in student.named_parameters():
            flat = p.grad.flatten()
            at = [i * (flat.numel() - 1) // 15 for i in range(16)]
            gradients[name] = {"norm": flat.double().norm().item(), "values": [flat[i].item() for i in at]}
    norms.append(torch.nn.utils.clip_grad_norm_(student.parameters(), CLIP).item())
    for group in optimizer.param_groups:
        group["lr"] = LR * rate(step)
    optimizer.step()
    losses.append(loss.item())

(HERE / "training.json").write_text(json.dumps(
    {"sequences": sequences, "losses": losses, "norms": norms, "gradients": gradients}) + "\n")
print(losses)
