"""Find the learning rate of a Hugging Face ``Trainer``, and leave the trainer as it was.

``find_lr_for(trainer)`` runs the search; :class:`LearningRateSearchCallback` runs it inside
``trainer.train()``; ``result.apply(trainer)`` sets what was found.
"""

from lrsearch.errors import MissingDependency

try:
    import accelerate
    import transformers
except ImportError as error:
    raise MissingDependency(
        "lrsearch.integrations.transformers needs transformers and accelerate: "
        "pip install 'lrsearch[transformers]'.",
        name=error.name,
    ) from error
else:
    del accelerate, transformers

from lrsearch.integrations.transformers.apply import apply_result
from lrsearch.integrations.transformers.callback import LearningRateSearchCallback
from lrsearch.integrations.transformers.find import find_lr_for

__all__ = ["LearningRateSearchCallback", "apply_result", "find_lr_for"]
