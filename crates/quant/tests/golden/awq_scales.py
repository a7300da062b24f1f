"""Golden values for AWQ's scales, in numpy float64.

    python awq_scales.py > awq_scales.json

Written from the papers' formulas, not from the crate: scales s = s_X^a (Lin et al., arXiv 2306.00978, equation 5) and
s = s_X^a / (s_W^(1-a) + 1e-4) (AutoAWQ), at least 1e-4, divided by sqrt(max * min); s_W is the mean over rows of
|W| / (largest |W| of its group of columns + 1e-6).
"""

import json

import numpy as np

D_IN, GROUP = 12, 4


def normalized(s):
    s = np.maximum(s, 1e-4)
    return s / np.sqrt(s.max() * s.min())


def main():
    rng = np.random.default_rng(7)
    act = np.exp(rng.normal(0.0, 1.5, D_IN)).astype(np.float32).astype(np.float64)
    consumers = [rng.standard_t(4, (rows, D_IN)).astype(np.float32).astype(np.float64) for rows in (5, 3)]
    stacked = np.abs(np.concatenate(consumers))
    largest = stacked.reshape(-1, D_IN // GROUP, GROUP).max(axis=2, keepdims=True)
    weight = (stacked.reshape(-1, D_IN // GROUP, GROUP) / (largest + 1e-6)).reshape(-1, D_IN).mean(axis=0)
    ratios = [0.0, 0.25, 0.5, 0.85, 1.0]
    out = {
        "columns": D_IN,
        "group_size": GROUP,
        "act_mean_abs": act.tolist(),
        "consumers": [w.ravel().tolist() for w in consumers],
        "weight_mean_abs": weight.tolist(),
        "ratios": ratios,
        "activation": [normalized(act**a).tolist() for a in ratios],
        "activation_over_weight": [normalized(act**a / (weight ** (1 - a) + 1e-4)).tolist() for a in ratios],
    }
    print("{\n" + ",\n".join(f" {json.dumps(k)}: {json.dumps(v)}" for k, v in out.items()) + "\n}")


if __name__ == "__main__":
    main()
