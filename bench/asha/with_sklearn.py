"""1,000 nets for digits by scikit-learn's HalvingRandomSearchCV, one fold, 27 epochs at most, two processes.

MLPClassifier has no dropout, `alpha` is in its gradient, and each rung trains anew: its work is not quite the others'.
"""

import json
import sys

import numpy as np
from scipy.stats import loguniform
from sklearn.datasets import load_digits
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import HalvingRandomSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils._testing import ignore_warnings

if __name__ == "__main__":
    seed = int(sys.argv[1])
    rows = np.random.default_rng(seed).permutation(1797)
    x, y = load_digits(return_X_y=True)
    net = make_pipeline(StandardScaler(), MLPClassifier((32,), batch_size=64, random_state=seed))
    space = {
        "mlpclassifier__learning_rate_init": loguniform(1e-4, 1e-1),
        "mlpclassifier__alpha": loguniform(1e-5, 1e-1),
    }
    search = HalvingRandomSearchCV(
        net, space, n_candidates=1000, factor=3, resource="mlpclassifier__max_iter", min_resources=1, max_resources=27,
        cv=[(rows[:1437], rows[1437:])], refit=False, n_jobs=2, random_state=seed,
    )  # fmt: skip
    import os
    import warnings

    os.environ["PYTHONWARNINGS"] = "ignore"
    warnings.simplefilter("ignore")
    ignore_warnings(search.fit)(x, y)
    epochs = sum(n * many for n, many in zip(search.n_resources_, search.n_candidates_, strict=True))
    print(json.dumps({"score": float(search.best_score_), "epochs": int(epochs)}))
