"""Searches for the best parameters of a classifier: with joblib's own processes."""

from __future__ import annotations

from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score


def main() -> None:
    samples, labels = make_classification(n_samples=400, n_features=12, random_state=0)
    grid = {"n_estimators": [10, 20], "max_depth": [3, 6]}
    with parallel_config(backend="loky", n_jobs=2):
        search = GridSearchCV(RandomForestClassifier(random_state=0), grid, cv=3).fit(samples, labels)
        scores = cross_val_score(LogisticRegression(), samples, labels, cv=5)
    print(f"best: {sorted(search.best_params_.items())}, {search.best_score_:.3f}")
    print(f"for comparison: {scores.mean():.3f}")


if __name__ == "__main__":
    main()
