"""Find the learning rate of a Lightning module in its trainer, and leave both as they were.

Example:
    >>> from lrsearch.integrations.lightning import find_lr_for
    >>> result = find_lr_for(trainer, module)  # doctest: +SKIP
    >>> result.apply(module)  # doctest: +SKIP
    >>> trainer.fit(module)  # doctest: +SKIP
"""

from lrsearch.integrations.lightning.apply import apply_result
from lrsearch.integrations.lightning.callback import LearningRateSearch
from lrsearch.integrations.lightning.find import find_lr_for

__all__ = ["LearningRateSearch", "apply_result", "find_lr_for"]
