"""Many learning rates in one vectorised step.

``Choice`` decides whether lanes are worth it; ``TorchLanes`` are the lanes. A step goes

    batch -> gradients of all lanes (``vmap``, or the tape of it) -> optimizer, lane by lane

and its parts are: :mod:`objective` (losses by ``vmap``), :mod:`tape`, :mod:`simplify` and
:mod:`compiled` (the same kernels without Python in between), :mod:`lowering` (layers in the
layout that batched products like), :mod:`gradients` (which of these to trust when),
:mod:`state` and :mod:`updates` (stacked parameters and torch's optimizers for them).

Sources: the idea of training many models in one vectorised program, S. Wang et al.,
"Horizontally Fused Training Array", MLSys 2021, arXiv 2102.02344; ``torch.func``.
"""

from lrsearch.pytorch.lanes.choice import Choice, Trial
from lrsearch.pytorch.lanes.group import TorchLanes
from lrsearch.pytorch.lanes.recipe import LaneRecipe

__all__ = ["Choice", "LaneRecipe", "TorchLanes", "Trial"]
