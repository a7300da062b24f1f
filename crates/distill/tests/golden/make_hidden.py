"""The loss of hidden states, with and without a projection, in PyTorch: hidden.json.

    python make_hidden.py        (torch, transformers)

Student, teacher and sequences are those of make_training.py; the projection's values are those of make_lora.py. The student's layers stand beside
the teacher's second and fourth. The loss is that of make_training.py and a tenth of the hidden states'.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
TEMPERATURE, ALPHA, WEIGHT, MATCHED = 2.0, 0.1, 0.1, [1, 3]
model = lambda: AutoModelForCausalLM.from_pretrained(ROOT / "models/tiny", dtype=torch.float32, attn_implementation="eager")
tokens = torch.tensor(json.loads((HERE / "training.json").read_text())["sequences"][:2])


def hooked(model):
    states = []
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _, __, out: states.append(out[0] if isinstance(out, tuple) else out))
    return states


def value(i):
    return ((i * 2654435761) % 2**32 / 2**32 - 0.5) * 0.2


cases = []
for projected in [False, True]:
    teacher, student = model().eval(), model()
    student.model.layers = torch.nn.ModuleList([student.model.layers[0], student.model.layers[3]])
    targets, states = hooked(teacher), hooked(student)
    width = student.config.hidden_size
    values = torch.tensor([value(i) for i in range(width * width)], dtype=torch.float64).float().view(width, width)
    projection = values.requires_grad_() if projected else None
    with torch.no_grad():
        p = F.log_softmax(teacher(tokens).logits[:, :-1] / TEMPERATURE, -1)
    logits = student(tokens).logits[:, :-1]
    q = F.log_softmax(logits / TEMPERATURE, -1)
    soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="none", log_target=True).sum(-1).mean()
    hard = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    pairs = [(h if projection is None else h @ projection.T, targets[t]) for h, t in zip(states, MATCHED)]
    hidden = sum(((h - t.view_as(h))[..., :-1, :] ** 2).mean() for h, t in pairs) / len(pairs)
    ((1 - ALPHA) * soft + ALPHA * hard + WEIGHT * hidden).backward()
    parameters = list(student.named_parameters()) + ([("projection", projection)] if projected else [])
    gradients = {}
    for name, p in parameters:
        flat = p.grad.flatten()
        at = [i * (flat.numel() - 1) // 15 for i in range(16)]
        gradients[name] = {"norm": flat.double().norm().item(), "values": [flat[i].item() for i in at]}
    cases.append({"projected": projected, "hidden": hidden.item(), "gradients": gradients})
(HERE / "hidden.json").write_text(json.dumps({"weight": WEIGHT, "cases": cases}) + "\n")
print([case["hidden"] for case in cases])
