"""Writes drift.json: logits of two models on a few tokens, and the figures that PyTorch and NumPy find for them.

    python3 make_drift.py > drift.json

Needs torch and numpy. The formulas are those of llama.cpp's tools/perplexity/perplexity.cpp, evaluated in float64
from the definitions; the logits are rounded to multiples of 2^-8, so that they are exact in the file.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F

TOKENS, VOCABULARY = 150, 24

generator = torch.Generator().manual_seed(1)
base = torch.randn(TOKENS, VOCABULARY, generator=generator) * 3
model = base + torch.randn(TOKENS, VOCABULARY, generator=generator) * torch.rand(TOKENS, 1, generator=generator)
base, model = ((x * 256).round() / 256 for x in (base, model))
targets = torch.randint(VOCABULARY, (TOKENS,), generator=generator)

a, b = base.double(), model.double()
log_p, log_q = F.log_softmax(a, -1), F.log_softmax(b, -1)
nll_base = F.cross_entropy(a, targets, reduction="none").numpy()
nll = F.cross_entropy(b, targets, reduction="none").numpy()
kl = F.kl_div(log_q, log_p, log_target=True, reduction="none").sum(-1).numpy()
rows = torch.arange(TOKENS)
delta_p = (log_q[rows, targets].exp() - log_p[rows, targets].exp()).numpy()
same = (a.argmax(-1) == b.argmax(-1)).double().mean().item()
in_top5 = (b.topk(5, -1).indices == a.argmax(-1, keepdim=True)).any(-1).double().mean().item()


def stderr(x):
    """llama.cpp's mean_and_uncertainty."""
    return float(np.sqrt((np.mean(x * x) - np.mean(x) ** 2) / (len(x) - 1)))


def distribution(x):
    percentiles = {"p0_1": 0.1, "p1": 1, "p5": 5, "p10": 10, "p25": 25, "median": 50, "p75": 75}
    percentiles |= {"p90": 90, "p95": 95, "p99": 99, "p999": 99.9}
    figures = {"mean": float(x.mean()), "stderr": stderr(x), "min": float(x.min()), "max": float(x.max())}
    return figures | {name: float(np.percentile(x, at)) for name, at in percentiles.items()}


ppl, ppl_base = float(np.exp(nll.mean())), float(np.exp(nll_base.mean()))
covariance = float((np.mean(nll * nll_base) - nll.mean() * nll_base.mean()) / (TOKENS - 1))
ratio_stderr = float(np.sqrt(stderr(nll) ** 2 + stderr(nll_base) ** 2 - 2 * covariance))
ppl_stderr, ppl_base_stderr = ppl * stderr(nll), ppl_base * stderr(nll_base)
difference_stderr = float(np.sqrt(ppl_stderr**2 + ppl_base_stderr**2 - 2 * ppl * ppl_base * covariance))
rms = float(np.sqrt(np.mean(delta_p**2)))

print(
    json.dumps(
        {
            "vocabulary": VOCABULARY,
            "targets": targets.tolist(),
            "base": (base * 256).int().flatten().tolist(),
            "model": (model * 256).int().flatten().tolist(),
            "summary": {
                "tokens": TOKENS,
                "perplexity": ppl,
                "perplexity_stderr": ppl_stderr,
                "nll": {"mean": float(nll.mean()), "stderr": stderr(nll)},
                "base_perplexity": ppl_base,
                "base_perplexity_stderr": ppl_base_stderr,
                "ln_perplexity_ratio": {"mean": float(nll.mean() - nll_base.mean()), "stderr": ratio_stderr},
                "perplexity_ratio": {"mean": ppl / ppl_base, "stderr": ppl / ppl_base * ratio_stderr},
                "perplexity_difference": {"mean": ppl - ppl_base, "stderr": difference_stderr},
                "nll_correlation": covariance / (stderr(nll) * stderr(nll_base)),
                "kl_divergence": distribution(kl),
                "delta_p": distribution(delta_p) | {"rms": rms, "rms_stderr": 0.5 / rms * stderr(delta_p**2)},
                "top1_agreement": same,
                "top1_agreement_stderr": float(np.sqrt(same * (1 - same) / (TOKENS - 1))),
                "top5_agreement": in_top5,
                "top5_agreement_stderr": float(np.sqrt(in_top5 * (1 - in_top5) / (TOKENS - 1))),
            },
        },
        separators=(",", ":"),
    )
)
