"""Many learning rates in one step: trials batched by ``vmap``.

``Choice`` decides whether that is possible and faster; ``BatchedTrials`` are the trials. A step
goes ``batch -> gradients of all trials -> optimizer, trial by trial``: :mod:`.gradients` has
``vmap`` and the trace of it, with the layouts of :mod:`.layouts`; :mod:`.state` and
:mod:`.optimizers` have stacked parameters and torch's optimizers for them;
:mod:`.hidden_state` notices models that cannot share one forward pass.

Sources: the idea of training many models in one vectorised program, S. Wang et al.,
"Horizontally Fused Training Array", MLSys 2021, arXiv 2102.02344; ``torch.func``.
"""

from lrsearch.pytorch.vectorized.choose import Choice, Trial
from lrsearch.pytorch.vectorized.trials import BatchedTrials, Recipe

__all__ = ["BatchedTrials", "Choice", "Recipe", "Trial"]
