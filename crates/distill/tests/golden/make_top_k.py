"""Golden values of the losses against a teacher's likeliest tokens and the mass of the rest, from PyTorch in float64: top_k.json and top_k.f32.

    python make_top_k.py        (torch)

Hidden states, heads and labels are those of losses.f32. A divergence is that between distributions over k + 1 events.
"""

import json
import struct
from pathlib import Path

import torch
import torch.nn.functional as F

HERE = Path(__file__).parent
shape = json.loads((HERE / "losses.json").read_text())
TOKENS, VOCAB, STUDENT, TEACHER = (shape[key] for key in ("tokens", "vocab", "student_width", "teacher_width"))
numbers = (HERE / "losses.f32").read_bytes()
numbers = torch.tensor(struct.unpack(f"<{len(numbers) // 4}f", numbers))
sizes = [TOKENS * STUDENT, VOCAB * STUDENT, TOKENS * TEACHER, VOCAB * TEACHER]
hidden, head, t_hidden, t_head = (part.double() for part in numbers[: sum(sizes)].split(sizes))
labels = shape["labels"]
kept = [i for i, label in enumerate(labels) if label is not None]
targets = torch.tensor([labels[i] for i in kept])


def events(logits, ids, temperature):
    p = F.softmax(logits / temperature, -1)
    top = p.gather(-1, ids)
    rest = p.scatter(-1, ids, 0.0).sum(-1, keepdim=True)
    return torch.cat([top, rest], -1)


def divergence(kind, number, p, q):
    kl = lambda a, b: torch.where(a > 0, a * (a / b).log(), 0.0).sum(-1)
    if kind == "forward-kl":
        return kl(p, q)
    if kind == "reverse-kl":
        return kl(q, p)
    m = number * p + (1 - number) * q
    if kind == "js":
        return number * kl(p, m) + (1 - number) * kl(q, m)
    return kl(p, m)


cases, blob = [], []
for kind, number in [("forward-kl", None), ("reverse-kl", None), ("js", 0.5), ("js", 0.1), ("skew-kl", 0.1)]:
    for k, temperature, alpha in [(5, 1.0, 0.0), (3, 2.0, 0.3), (12, 0.7, 0.0), (1, 2.0, 0.0)]:
        h, w = hidden.view(TOKENS, STUDENT).clone().requires_grad_(), head.view(VOCAB, STUDENT).clone().requires_grad_()
        student = (h @ w.T)[kept]
        teacher = (t_hidden.view(TOKENS, TEACHER) @ t_head.view(VOCAB, TEACHER).T)[kept]
        ids = teacher.topk(k, -1).indices
        p, q = events(teacher, ids, temperature), events(student, ids, temperature)
        loss = (1 - alpha) * temperature**2 * divergence(kind, number, p, q).mean() + alpha * F.cross_entropy(student, targets)
        loss.backward()
        name = kind if number is None else f"{kind}:{number}"
        cases.append({"divergence": name, "k": k, "temperature": temperature, "alpha": alpha, "loss": loss.item()})
        blob += h.grad.flatten().tolist() + w.grad.flatten().tolist()
(HERE / "top_k.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")
(HERE / "top_k.f32").write_bytes(struct.pack(f"<{len(blob)}f", *blob))
