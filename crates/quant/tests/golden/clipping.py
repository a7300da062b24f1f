"""Writes clipping.json: the least error that any scale (and zero) of a group can reach, found by trying very many of them.

    python3 clipping.py > clipping.json

Needs torch. Inputs u of 32 neighbouring columns share a few directions; G = E[u u^T], rounded to f32. For groups of weights
drawn from a heavy-tailed distribution the script tries 4000 scales (and with zeros each of the 16), rounds to nearest, and takes
the least e^T G e, in f64: AWQ's clipping search (arXiv 2306.00978, `auto_clip.py`), by moments instead of samples, with a fine
comb instead of twenty ratios.
"""

import json

import torch

torch.manual_seed(3)
LEN, GROUPS = 32, 12

basis = torch.randn(4, LEN, dtype=torch.float64)
u = torch.randn(2000, LEN, dtype=torch.float64) * torch.rand(LEN, dtype=torch.float64).add(0.3)
u += torch.randn(2000, 4, dtype=torch.float64) @ basis
gram = (u.T @ u / len(u)).float()
weights = (torch.distributions.StudentT(4.0).sample((GROUPS, LEN)) * 0.02).float()


def errors(x, scale, zero):
    """e^T G e of one group for scales [n]."""
    low, high = -zero, 15 - zero
    q = (x[None, :] / scale[:, None]).round().clamp(low, high)
    e = x[None, :] - q * scale[:, None]
    return torch.einsum("ni,ij,nj->n", e, gram.double(), e)


out = {"len": LEN, "gram": gram.flatten().tolist(), "weights": weights.flatten().tolist(), "symmetric": [], "asymmetric": []}
for group in weights.double():
    span = group.abs().max() / 7.5
    fine = torch.linspace(0.25, 1.2, 4000, dtype=torch.float64) * span
    out["symmetric"].append(min(errors(group, sign * fine, 8).min().item() for sign in (1, -1)))
    span = (group.max().clamp_min(0) - group.min().clamp_max(0)) / 15
    fine = torch.linspace(0.25, 1.2, 4000, dtype=torch.float64) * span
    out["asymmetric"].append(min(errors(group, fine, zero).min().item() for zero in range(16)))
print(json.dumps(out, separators=(",", ":")))
