"""AMUN + retained: AMUN with the retain set beside the adversarial examples.

Source: Ebrahimpour-Boroojeny et al. 2025. The authors mix the examples into the
training set, which holds the forget clips unless they ask for the examples alone; here one step has
both sets, as in `remain`, and the forget clips are left out unless ``keep_forget`` is set.
"""

from speechunlearn.methods import amun
from speechunlearn.methods.base import Method, Outcome, UnlearningData, Work
from speechunlearn.models.classifier import Classifier


def run(
    model: Classifier, data: UnlearningData, parameters: amun.Parameters, work: Work
) -> Outcome:
    """Minimise CE(f(x_r), y_r) + CE(f(x~_e), y~_e) (+ CE(f(x_e), y_e))."""
    return amun.run(model, data, parameters, work, data.retain)


METHOD = Method("amun_r", "AMUN + retained", {"forget", "retain"}, amun.Parameters, run)
