"""What a reward model has to beat: answer length, and a linear model on word counts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV

from heedlm.evals.reward_model import held_out_accuracy, length_scores
from heedlm.records import Comparison

Scores = list[list[float]]


def ordered(row: Comparison) -> tuple[str, str]:
    """The preferred answer's text and the other's, whole."""
    better, worse = row.pairs()[0]
    return row.answers[better].text, row.answers[worse].text


def bag_of_words(train: Sequence[Comparison], test: Sequence[Comparison], seed: int = 0) -> Scores:
    """Scores of the test answers by logistic regression on (chosen − rejected) token counts.

    Words of at least three training answers; no intercept, which is what makes the model antisymmetric; the
    strength of the penalty by five-fold cross-validation inside the training rows.
    """
    counter = CountVectorizer(token_pattern=r"\w+|[^\w\s]", min_df=3)
    pairs = [ordered(row) for row in train]
    counter.fit([text for pair in pairs for text in pair])
    difference = csr_matrix(counter.transform([a for a, _ in pairs]) - counter.transform([b for _, b in pairs]))
    # Half of the rows are turned round, so that both classes exist.
    sign = np.where(np.random.default_rng(seed).random(len(pairs)) < 0.5, 1, -1)
    model = GridSearchCV(
        LogisticRegression(fit_intercept=False, max_iter=1000),
        {"C": np.logspace(-4, 0, 9)},
        scoring="neg_log_loss",
        cv=5,
    )
    model.fit(difference.multiply(sign[:, None]).tocsr(), sign)
    weights = model.best_estimator_.coef_.ravel()
    return [[float(v) for v in counter.transform([a.text for a in row.answers]) @ weights] for row in test]


def signed_length(train: Sequence[Comparison], test: Sequence[Comparison]) -> Scores:
    """Scores of the test answers by their length, or by their shortness if the training rows prefer the shorter one."""
    better = held_out_accuracy(train, length_scores(train)).accuracy.estimate
    sign = 1.0 if better >= 0.5 else -1.0
    return [[sign * value for value in row] for row in length_scores(test)]
