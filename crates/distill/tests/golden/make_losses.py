"""Golden values of the losses, from PyTorch in float64: losses.json and losses.f32.

    python make_losses.py        (torch)

Hidden states and heads of a student and a teacher of different widths; for every loss its mean over tokens and the gradients of
the student's hidden states and head. The third token has no label.
"""

import json
import struct
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
TOKENS, VOCAB, STUDENT, TEACHER = 5, 37, 8, 12
torch.manual_seed(5)
values = {
    "student_hidden": torch.randn(TOKENS, STUDENT),
    "student_head": torch.randn(VOCAB, STUDENT) * 1.5,
    "teacher_hidden": torch.randn(TOKENS, TEACHER),
    "teacher_head": torch.randn(VOCAB, TEACHER) * 1.5,
}
labels = [3, 36, None, 0, 17]
kept = [i for i, label in enumerate(labels) if label is not None]
targets = torch.tensor([labels[i] for i in kept])


def divergence(kind, number, student, teacher, temperature):
    if kind == "logit-mse":
        return ((student - teacher) ** 2).mean(-1)
    log_q, log_p = (F.log_softmax(z / temperature, -1) for z in (student, teacher))
    p, q = log_p.exp(), log_q.exp()
    kl = lambda a, log_a, log_b: (a * (log_a - log_b)).sum(-1)
    if kind == "forward-kl":
        loss = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1)
    elif kind == "reverse-kl":
        loss = F.kl_div(log_p, log_q, reduction="none", log_target=True).sum(-1)
    elif kind == "js":
        log_m = (number * p + (1 - number) * q).log()
        loss = number * kl(p, log_p, log_m) + (1 - number) * kl(q, log_q, log_m)
    elif kind == "skew-kl":
        loss = kl(p, log_p, (number * p + (1 - number) * q).log())
    return temperature**2 * loss


cases, blob = [], []
for tensor in values.values():
    blob += tensor.flatten().tolist()
for kind, number in [("forward-kl", None), ("reverse-kl", None), ("js", 0.5), ("js", 0.1), ("skew-kl", 0.1), ("logit-mse", None)]:
    for temperature, alpha in [(1.0, 0.0), (2.0, 0.3), (0.7, 0.0), (2.0, 1.0)]:
        hidden, head, t_hidden, t_head = (v.double().clone().requires_grad_() for v in values.values())
        student, teacher = (hidden @ head.T)[kept], (t_hidden @ t_head.T)[kept].detach()
        soft = divergence(kind, number, student, teacher, temperature).mean()
        hard = F.cross_entropy(student, targets)
        loss = (1 - alpha) * soft + alpha * hard
        loss.backward()
        name = kind if number is None else f"{kind}:{number}"
        cases.append({"divergence": name, "temperature": temperature, "alpha": alpha, "loss": loss.item(),
                      "cross_entropy": hard.item()})
        blob += hidden.grad.flatten().tolist() + head.grad.flatten().tolist()
(HERE / "losses.json").write_text(json.dumps(
    {"tokens": TOKENS, "vocab": VOCAB, "student_width": STUDENT, "teacher_width": TEACHER, "labels": labels, "cases": cases}, indent=1) + "\n")
(HERE / "losses.f32").write_bytes(struct.pack(f"<{len(blob)}f", *blob))
