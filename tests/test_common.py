"""scikit-learn's own checks, on every estimator with its default arguments."""

import pytest
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from tests.toys import ESTIMATORS, CentroidXC, SampleGraphXC


def expected_failed_checks(estimator):
    """Return {check name: reason}; empty, since no estimator needs an exemption."""
    return {}


@parametrize_with_checks(
    [estimator() for estimator in ESTIMATORS],
    expected_failed_checks=expected_failed_checks,
)
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", [CentroidXC, SampleGraphXC])
def test_check_estimator_in_one_call(estimator):
    results = check_estimator(estimator(), on_skip=None)
    assert len(results) > 60
