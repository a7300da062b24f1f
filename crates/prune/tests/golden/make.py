"""Masks and losses by an independent implementation in PyTorch, for tests/golden.rs.

usage: python make.py > pruned.json      (needs torch)

Weights and activations come from a formula that the test repeats. SparseGPT is written after algorithm 1 of arXiv 2301.00774, with the
upper Cholesky factor of the inverse Hessian, damping of 0.01 of the diagonal's mean, and masks chosen for 128 columns at a time.
"""

import json

import torch

ROWS, COLUMNS, TOKENS, BLOCK = 16, 192, 512, 128


def noise(count, seed):
    i = torch.arange(count, dtype=torch.int64) + seed * 1_000_003
    mixed = (i * 2_654_435_761) % 2**32
    mixed = (mixed ^ (mixed >> 15)) * 2_246_822_519 % 2**32
    return ((mixed ^ (mixed >> 13)) % 65_536).to(torch.float64) / 32_768 - 1.0


def data():
    weights = noise(ROWS * COLUMNS, 1).view(ROWS, COLUMNS)
    own = noise(TOKENS * COLUMNS, 2).view(TOKENS, COLUMNS)
    shared = noise(TOKENS * (COLUMNS // 8), 3).view(TOKENS, COLUMNS // 8)
    scale = 0.25 + (torch.arange(COLUMNS) * 7 % 13).to(torch.float64) / 4
    return weights.float(), ((own + 1.5 * shared.repeat_interleave(8, dim=1)) * scale).float()


def bits(kept):
    return ["".join("1" if k else "0" for k in row) for row in kept.tolist()]


def least(importance, share):
    """Prunes round(share * columns) of every row."""
    kept = torch.ones_like(importance, dtype=torch.bool)
    order = importance.sort(dim=1, stable=True).indices[:, : round(share * importance.shape[1])]
    return kept.scatter(1, order, False)


def two_of_four(importance):
    groups = importance.reshape(-1, 4)
    pruned = groups.topk(2, dim=1, largest=False).indices
    return torch.ones_like(groups, dtype=torch.bool).scatter(1, pruned, False).view_as(importance)


def sparsegpt(weights, hessian, share=None):
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(COLUMNS)
    inverse = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(damped)), upper=True)
    left, done = weights.clone(), torch.zeros_like(weights)
    for first in range(0, COLUMNS, BLOCK):
        last = min(first + BLOCK, COLUMNS)
        block, factor = left[:, first:last].clone(), inverse[first:last, first:last]
        errors = torch.zeros_like(block)
        if share is not None:
            cost = block**2 / factor.diagonal() ** 2
            threshold = cost.flatten().sort().values[round(share * cost.numel()) - 1]
            pruned = cost <= threshold
        else:
            pruned = torch.zeros_like(block, dtype=torch.bool)
        for k in range(last - first):
            if share is None and k % 4 == 0:
                cost = block[:, k : k + 4] ** 2 / factor.diagonal()[k : k + 4] ** 2
                pruned.scatter_(1, k + cost.topk(2, dim=1, largest=False).indices, True)
            column = block[:, k].clone()
            column[pruned[:, k]] = 0
            done[:, first + k] = column
            error = (block[:, k] - column) / factor[k, k]
            block[:, k:] -= error.unsqueeze(1) @ factor[k, k:].unsqueeze(0)
            errors[:, k] = error
        left[:, last:] -= errors @ inverse[first:last, last:]
    return done


def main():
    weights, x = data()
    weights, x = weights.double(), x.double()
    hessian = 2 / TOKENS * x.T @ x
    loss = lambda pruned: ((weights - pruned) @ hessian * (weights - pruned)).sum().item()
    wanda = weights.abs() * x.norm(dim=0)
    half, pattern = sparsegpt(weights, hessian, 0.5), sparsegpt(weights, hessian)
    exact = torch.zeros_like(weights)
    damped = hessian + 0.01 * hessian.diagonal().mean() * torch.eye(COLUMNS)
    for row, kept in enumerate(half != 0):
        exact[row, kept] = torch.linalg.solve(damped[kept][:, kept], (damped @ weights[row])[kept])
    damped_loss = lambda pruned: ((weights - pruned) @ damped * (weights - pruned)).sum().item()
    print(
        json.dumps(
            {
                "magnitude": bits(least(weights.abs(), 0.5)),
                "wanda": bits(least(wanda, 0.5)),
                "wanda_2_4": bits(two_of_four(wanda)),
                "sparsegpt": {"mask": bits(half != 0), "loss": loss(half)},
                "sparsegpt_2_4": {"mask": bits(pattern != 0), "loss": loss(pattern)},
                "refit": {"damped_loss": damped_loss(exact), "before": damped_loss(half)},
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
