"""A deletion request on anyone's own model, in one call.

>>> from speechunlearn.tool import forget                              # doctest: +SKIP
>>> done = forget("my-model", "clips.csv", out="unlearned")            # doctest: +SKIP
>>> print(done.summary())                                              # doctest: +SKIP
"""

from speechunlearn.tool.auditing import audit
from speechunlearn.tool.cost import Plan, plan
from speechunlearn.tool.forgetting import Done, forget

__all__ = ["Done", "Plan", "audit", "forget", "plan"]
