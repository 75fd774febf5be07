"""Which modules can be trained in lanes, and why others cannot."""

from __future__ import annotations

from typing import Any, NoReturn

from lrsearch.integrations.lightning.steps import overridden

__all__ = ["Untold", "why_no_lanes"]

# What happens around the loss of a batch: lanes know only the loss.
_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "optimizer_zero_grad",
    "on_before_backward",
    "backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "optimizer_step",
)


class Untold:
    """What lanes cannot tell a step: using it fails, and the lanes are trained in turn.

    Lanes may replay recorded kernels, which would keep the value of the first update.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def _used(self, *_: object) -> NoReturn:
        raise RuntimeError(f"training_step uses {self._name}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _used
    __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = _used
    __pow__ = __rpow__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = _used
    __int__ = __float__ = __index__ = __bool__ = __hash__ = __str__ = __repr__ = _used
    __neg__ = __abs__ = __round__ = __format__ = __iter__ = _used


def why_no_lanes(trainer: Any, batches: int | None) -> str:
    """Return the reason why this trainer's updates cannot be made for many lanes at once.

    Args:
        trainer: set up for ``fit``.
        batches: in one pass over the data, if that is known.
    """
    module, plugin = trainer.lightning_module, trainer.precision_plugin
    if not module.automatic_optimization:
        return "the module optimizes by hand"
    if trainer.world_size > 1 or trainer.strategy.model is not module:
        return "the module is spread over processes"
    if type(plugin).__name__ != "Precision":
        return f"the precision plugin {type(plugin).__name__} trains one run at a time"
    if trainer.accumulate_grad_batches > 1 and (
        batches is None or batches % trainer.accumulate_grad_batches
    ):
        return "the last update of a pass has fewer batches"
    own = [hook for hook in _HOOKS if overridden(module, hook)]
    return f"the module has its own {own[0]}" if own else ""
