"""GPTQ on integer grids after the paper, for `gptq_int4.json`.

    python gptq_int4.py > gptq_int4.json

Frantar et al., arXiv 2210.17323, algorithm 1 in float64, one column at a time: the upper Cholesky factor of the inverse of
the damped Hessian, percdamp 0.01 of the mean diagonal; scales from the largest weights of a group when its first column
comes, or, in the order of falling diagonal, beforehand ("static groups"). Needs NumPy alone.

Inputs are numbers that follow from their index, so that only results are stored: codes as one hexadecimal digit a weight,
scales and zeros a group, and the loss tr((W - Q) H (W - Q)^T) under the Hessian without damping.
"""

import json

import numpy as np

ROWS, COLUMNS, TOKENS, DIRECTIONS = 24, 256, 512, 24
CASES = {
    "group 128": dict(group=128, symmetric=True, act_order=False),
    "group 128, by activation": dict(group=128, symmetric=True, act_order=True),
    "channel": dict(group=COLUMNS, symmetric=True, act_order=False),
    "group 128, asymmetric": dict(group=128, symmetric=False, act_order=False),
    "group 32, asymmetric, by activation": dict(group=32, symmetric=False, act_order=True),
}


def numbers(seed, count):
    """In (-1, 1), multiples of 2^-23: a hash of the index."""
    z = np.arange(count, dtype=np.uint64) + np.uint64(seed << 32)
    z = (z + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2.0**23 - 1.0


def inputs():
    """Weights, and H = 2 / n sum x x^T of inputs that share directions and have a few large columns."""
    weights = numbers(1, ROWS * COLUMNS).reshape(ROWS, COLUMNS) * numbers(2, ROWS * COLUMNS).reshape(ROWS, COLUMNS)
    own = numbers(3, TOKENS * COLUMNS).reshape(TOKENS, COLUMNS)
    own[:, ::37] *= 8
    shared = numbers(4, TOKENS * DIRECTIONS).reshape(TOKENS, DIRECTIONS)
    basis = numbers(5, DIRECTIONS * COLUMNS).reshape(DIRECTIONS, COLUMNS)
    x = own + 0.5 * shared @ basis
    return weights, 2.0 / TOKENS * x.T @ x


def find_params(w, symmetric):
    """Scale and zero of each row of `w`; 16 levels. Scales are rounded as they are stored, before anything else: the largest
    weight would lie exactly between two levels otherwise, and go to either."""
    low, high = np.minimum(w.min(axis=1), 0), np.maximum(w.max(axis=1), 0)
    if symmetric:
        high = np.maximum(-low, high)
        low = -high
    scale = ((high - low) / 15).astype(np.float16).astype(np.float64)
    zero = np.full_like(scale, 8) if symmetric else np.round(-low / scale)
    return scale, zero


def gptq(weights, hessian, group, symmetric, act_order):
    w, h = weights.copy(), hessian.copy()
    groups = COLUMNS // group
    scales, zeros = np.zeros((ROWS, groups)), np.zeros((ROWS, groups))
    order = np.argsort(-np.diag(h), kind="stable") if act_order else np.arange(COLUMNS)
    fitted_before = act_order or group == COLUMNS
    if fitted_before:
        for g in range(groups):
            scales[:, g], zeros[:, g] = find_params(w[:, g * group : (g + 1) * group], symmetric)
    h += 0.01 * np.mean(np.diag(h)) * np.eye(COLUMNS)
    w, h = w[:, order], h[np.ix_(order, order)]
    upper = np.linalg.cholesky(np.linalg.inv(h)).T
    codes, rounded = np.zeros((ROWS, COLUMNS), dtype=int), np.zeros((ROWS, COLUMNS))
    for i, column in enumerate(order):
        g = column // group
        if not fitted_before and i % group == 0:
            scales[:, g], zeros[:, g] = find_params(w[:, i : i + group], symmetric)
        codes[:, column] = np.clip(np.round(w[:, i] / scales[:, g]) + zeros[:, g], 0, 15)
        rounded[:, column] = scales[:, g] * (codes[:, column] - zeros[:, g])
        error = (w[:, i] - rounded[:, column]) / upper[i, i]
        w[:, i + 1 :] -= np.outer(error, upper[i, i + 1 :])
    lost = weights - rounded.astype(np.float16)  # as readers compute the product
    return codes, scales, zeros, np.einsum("ij,jk,ik->", lost, hessian, lost)


def main():
    weights, hessian = inputs()
    cases = []
    for name, case in CASES.items():
        codes, scales, zeros, loss = gptq(weights, hessian, **case)
        digits = ["".join(f"{c:x}" for c in row) for row in codes]
        record = {"name": name, **case, "loss": loss, "scales": scales.ravel().tolist()}
        cases.append({**record, "zeros": zeros.ravel().astype(int).tolist(), "codes": digits})
    facts = {"rows": ROWS, "columns": COLUMNS, "tokens": TOKENS, "directions": DIRECTIONS}
    facts["trace"] = float(np.trace(hessian))
    text = ",\n".join(json.dumps(case) for case in cases)
    print(json.dumps(facts)[:-1] + ', "cases": [\n' + text + "\n]}")


if __name__ == "__main__":
    main()
