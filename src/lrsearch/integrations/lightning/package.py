"""The two names of one package, and every private attribute of it that is relied on.

Lightning is installed as ``lightning`` and as ``pytorch_lightning``; their classes are not the
same. What is needed comes from the package that the user's trainer came from.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from lrsearch.errors import InvalidArgument, MissingDependency, Words

__all__ = [
    "PRIVATE",
    "check_package",
    "installed",
    "made_anew",
    "made_without_trainer",
    "package_of",
    "progress_of",
    "setup_data",
]

_NAMES = ("lightning.pytorch", "pytorch_lightning")

# Undocumented in Lightning 2.6, from the trainer (``trainer.``) or the package. A test looks
# for each of them; nothing outside this list is used that Lightning does not document.
PRIVATE = (
    "trainer.fit_loop.setup_data",
    "trainer.fit_loop._combined_loader",
    "trainer.fit_loop.epoch_loop.val_loop.setup_data",
    "trainer.fit_loop.epoch_loop.val_loop._combined_loader",
    "trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total.completed",
    "trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.total.completed",
    "trainer.strategy.launcher",
    "trainer.lightning_module._on_before_batch_transfer",
    "loggers.logger.DummyLogger",
    "core.optimizer._MockOptimizer",
    "core.optimizer._configure_optimizers",
    "core.optimizer._init_optimizers_and_lr_schedulers",
    "utilities.combined_loader.CombinedLoader.flattened",
)


def installed() -> ModuleType:
    """Return the package that is loaded already, or else the one that is installed.

    Raises:
        MissingDependency: neither is installed.
    """
    for name in _NAMES:
        if name in sys.modules:
            return sys.modules[name]
    for name in reversed(_NAMES):
        if importlib.util.find_spec(name.partition(".")[0]) is not None:
            return importlib.import_module(name)
    raise MissingDependency(
        "lrsearch.integrations.lightning needs Lightning: pip install 'lrsearch[lightning]', or "
        "your own lightning or pytorch-lightning."
    )


def package_of(thing: object) -> ModuleType | None:
    """Return the package that an object's class derives from, ``None`` for anything else."""
    for kind in type(thing).__mro__:
        for name in _NAMES:
            if kind.__module__ == name or kind.__module__.startswith(f"{name}."):
                return importlib.import_module(name)
    return None


def check_package(trainer: object, module: object) -> None:
    """Raise unless the two are a trainer and a module of the same package."""
    module = getattr(module, "_orig_mod", module)  # what torch.compile wraps
    package = package_of(trainer)
    if package is None or not isinstance(trainer, package.Trainer):
        raise InvalidArgument.of("trainer", trainer, "a Lightning Trainer")
    if isinstance(module, package.LightningModule):
        return
    other = package_of(module)
    if other is None or not isinstance(module, other.LightningModule):
        raise InvalidArgument.of("module", Words(f"a {type(module).__name__}"), "a LightningModule")
    raise InvalidArgument.of(
        "module",
        Words(f"a module of {other.__name__}"),
        f"one of {package.__name__}, as the trainer",
        "The two packages do not mix: import both from the same one.",
    )


def made_anew(module: Any) -> tuple[list[Any], list[Any]]:
    """Return what ``configure_optimizers`` makes now: optimizers, and the schedulers' configs."""
    package = package_of(module)
    assert package is not None
    home = importlib.import_module(f"{package.__name__}.core.optimizer")
    optimizers, configs = home._init_optimizers_and_lr_schedulers(module)
    return list(optimizers), list(configs)


def made_without_trainer(module: Any) -> tuple[list[Any], list[Any]]:
    """Return the optimizers and schedulers that ``configure_optimizers`` makes now.

    Raises:
        Exception: whatever the user's code raises, if it needs a trainer.
    """
    package = package_of(module)
    assert package is not None
    home = importlib.import_module(f"{package.__name__}.core.optimizer")
    optimizers, configs, _ = home._configure_optimizers(module.configure_optimizers())
    schedulers = [one["scheduler"] if isinstance(one, dict) else one for one in configs]
    return list(optimizers), schedulers


def progress_of(trainer: Any) -> Any:
    """Return the counter whose ``completed`` is ``trainer.global_step``."""
    loop = trainer.fit_loop.epoch_loop
    if trainer.lightning_module.automatic_optimization:
        return loop.automatic_optimization.optim_progress.optimizer.step.total
    return loop.manual_optimization.optim_step_progress.total


def setup_data(trainer: Any) -> tuple[Any, Any]:
    """Return the combined loaders that ``fit`` would train and validate on; the second may be None.

    Distributed samplers, limits and overfitting are applied as in ``fit``.
    """
    trainer.fit_loop.setup_data()
    validation = trainer.fit_loop.epoch_loop.val_loop
    if trainer.enable_validation:
        validation.setup_data()
    return trainer.fit_loop._combined_loader, validation._combined_loader
