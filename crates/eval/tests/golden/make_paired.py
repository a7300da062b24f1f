"""Writes paired.json: exact McNemar tests and Clopper-Pearson bounds by SciPy.

    python3 make_paired.py > paired.json

Needs scipy.
"""

import json

from scipy.stats import beta, binomtest

flips = [(0, 0), (1, 1), (50, 50), (999, 1000), (30000, 30400)]
flips += [(gained, lost) for gained in (0, 1, 3, 10, 40, 250) for lost in (0, 2, 5, 17, 90, 400) if gained != lost]
print(
    json.dumps(
        {
            "mcnemar": [
                [gained, lost, binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0]
                for gained, lost in flips
            ],
            "highest_rate": [
                [events, n, confidence, beta.ppf(confidence, events + 1, n - events)]
                for n in (5, 30, 200, 5000, 15000)
                for events in (0, 1, 4, 29, 150, 500)
                if events < n
                for confidence in (0.9, 0.95, 0.99)
            ],
        }
    )
)
