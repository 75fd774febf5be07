"""torch's optimizers for batched trials: the same step, with a learning rate for each trial.

Every function here repeats, line by line, what torch's own optimizer of that name does to one
model; parameters, gradients and state have the trials as their first axis. A step is the
trial's learning rate times a direction that does not depend on it, so one call moves all trials.

Sources: I. Sutskever et al., "On the importance of initialization and momentum in deep
learning", ICML 2013 (SGD); D. Kingma, J. Ba, arXiv 1412.6980 (Adam); I. Loshchilov, F. Hutter,
arXiv 1711.05101 (AdamW); T. Tieleman, G. Hinton, Coursera 2012, lecture 6.5 (RMSprop);
J. Duchi, E. Hazan, Y. Singer, JMLR 12, 2011 (Adagrad); as written in ``torch.optim``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = ["RULES", "Rule", "Tensors"]

Options = dict[str, Any]
Tensors = list[Tensor]
Slots = dict[str, Tensors]


@dataclass(frozen=True)
class Rule:
    """How an optimizer moves its parameters.

    Attributes:
        slots: ``slots(options)`` names the tensors that it keeps for each parameter, with
            the value that fills them at the start.
        step: ``step(options, age, parameters, gradients, slots, rates)`` changes the
            parameters and the slots; ``age`` counts the steps made before, ``rates`` are
            the trials' learning rates, one view per parameter, ``(trials, 1, ...)``.
            Gradients are never written to: they may share memory.
    """

    slots: Callable[[Options], dict[str, float]]
    step: Callable[[Options, int, Tensors, Tensors, Slots, Tensors], None]


def _sgd_slots(options: Options) -> dict[str, float]:
    return {"momentum_buffer": 0.0} if options["momentum"] else {}


def _sgd(
    options: Options,
    age: int,
    parameters: Tensors,
    gradients: Tensors,
    slots: Slots,
    rates: Tensors,
) -> None:
    direction = _with_decay(options, parameters, gradients)
    if momentum := options["momentum"]:
        velocity = slots["momentum_buffer"]
        if age == 0:
            torch._foreach_copy_(velocity, direction)
        else:
            torch._foreach_mul_(velocity, momentum)
            torch._foreach_add_(velocity, direction, alpha=1.0 - options["dampening"])
        if options["nesterov"]:
            direction = list(torch._foreach_add(direction, velocity, alpha=momentum))
        else:
            direction = velocity
    torch._foreach_addcmul_(parameters, direction, rates, value=-1.0)


def _adam_slots(options: Options) -> dict[str, float]:
    slots = {"exp_avg": 0.0, "exp_avg_sq": 0.0}
    return {**slots, "max_exp_avg_sq": 0.0} if options["amsgrad"] else slots


def _adam(
    options: Options,
    age: int,
    parameters: Tensors,
    gradients: Tensors,
    slots: Slots,
    rates: Tensors,
) -> None:
    if options.get("decoupled_weight_decay"):
        if decay := options["weight_decay"]:
            torch._foreach_addcmul_(parameters, parameters, rates, value=-decay)
        gradients = _signed(options, gradients)
    else:
        gradients = _with_decay(options, parameters, gradients)
    move = _adam_move_fused if _fuses(gradients) else _adam_move
    torch._foreach_addcmul_(parameters, move(options, age + 1, gradients, slots), rates)


def _adamw(
    options: Options,
    age: int,
    parameters: Tensors,
    gradients: Tensors,
    slots: Slots,
    rates: Tensors,
) -> None:
    options = {**options, "decoupled_weight_decay": True}
    _adam(options, age, parameters, gradients, slots, rates)


def _adam_move(options: Options, step: int, gradients: Tensors, slots: Slots) -> Tensors:
    """Update the moments and return the move at learning rate one."""
    beta1, beta2 = (float(beta) for beta in options["betas"])
    mean, square = slots["exp_avg"], slots["exp_avg_sq"]
    torch._foreach_lerp_(mean, gradients, 1.0 - beta1)
    torch._foreach_mul_(square, beta2)
    torch._foreach_addcmul_(square, gradients, gradients, value=1.0 - beta2)
    if options["amsgrad"]:
        torch._foreach_maximum_(slots["max_exp_avg_sq"], square)
        square = slots["max_exp_avg_sq"]
    scale = torch._foreach_sqrt(square)
    torch._foreach_div_(scale, (1.0 - beta2**step) ** 0.5)
    torch._foreach_add_(scale, options["eps"])
    move = torch._foreach_div(mean, scale)
    torch._foreach_mul_(move, -1.0 / (1.0 - beta1**step))
    return list(move)


def _fuses(gradients: Tensors) -> bool:
    """Whether torch's one-kernel Adam, which reads memory in order, can take them."""
    return hasattr(torch, "_fused_adam_") and all(
        gradient.is_contiguous() and gradient.dtype in (torch.float32, torch.float64)
        for gradient in gradients
    )


def _adam_move_fused(options: Options, step: int, gradients: Tensors, slots: Slots) -> Tensors:
    """The same in one pass over memory: parameters that start at zero end at the move."""
    move = [torch.zeros_like(gradient) for gradient in gradients]
    count = torch.full((), float(step), device=gradients[0].device)
    torch._fused_adam_(
        move,
        gradients,
        slots["exp_avg"],
        slots["exp_avg_sq"],
        slots.get("max_exp_avg_sq", []),
        [count] * len(move),
        lr=1.0,
        beta1=float(options["betas"][0]),
        beta2=float(options["betas"][1]),
        weight_decay=0.0,
        eps=float(options["eps"]),
        amsgrad=bool(options["amsgrad"]),
        maximize=False,
    )
    return move


def _rmsprop_slots(options: Options) -> dict[str, float]:
    slots = {"square_avg": 0.0}
    if options["momentum"]:
        slots["momentum_buffer"] = 0.0
    return {**slots, "grad_avg": 0.0} if options["centered"] else slots


def _rmsprop(
    options: Options,
    age: int,
    parameters: Tensors,
    gradients: Tensors,
    slots: Slots,
    rates: Tensors,
) -> None:
    gradients = _with_decay(options, parameters, gradients)
    square, alpha = slots["square_avg"], options["alpha"]
    torch._foreach_mul_(square, alpha)
    torch._foreach_addcmul_(square, gradients, gradients, value=1.0 - alpha)
    if options["centered"]:
        mean = slots["grad_avg"]
        torch._foreach_lerp_(mean, gradients, 1.0 - alpha)
        square = list(torch._foreach_addcmul(square, mean, mean, value=-1.0))
    scale = torch._foreach_sqrt(square)
    torch._foreach_add_(scale, options["eps"])
    move = list(torch._foreach_div(gradients, scale))
    if options["momentum"]:
        velocity = slots["momentum_buffer"]
        torch._foreach_mul_(velocity, options["momentum"])
        torch._foreach_add_(velocity, move)
        move = velocity
    torch._foreach_addcmul_(parameters, move, rates, value=-1.0)


def _adagrad_slots(options: Options) -> dict[str, float]:
    return {"sum": float(options["initial_accumulator_value"])}


def _adagrad(
    options: Options,
    age: int,
    parameters: Tensors,
    gradients: Tensors,
    slots: Slots,
    rates: Tensors,
) -> None:
    gradients = _with_decay(options, parameters, gradients)
    torch._foreach_addcmul_(slots["sum"], gradients, gradients)
    scale = torch._foreach_sqrt(slots["sum"])
    torch._foreach_add_(scale, options["eps"])
    move = torch._foreach_div(gradients, scale)
    shrink = 1.0 / (1.0 + age * options["lr_decay"])
    torch._foreach_addcmul_(parameters, move, rates, value=-shrink)


def _signed(options: Options, gradients: Tensors) -> Tensors:
    return list(torch._foreach_neg(gradients)) if options.get("maximize") else gradients


def _with_decay(options: Options, parameters: Tensors, gradients: Tensors) -> Tensors:
    gradients = _signed(options, gradients)
    if decay := options["weight_decay"]:
        return list(torch._foreach_add(gradients, parameters, alpha=decay))
    return gradients


RULES: dict[type[torch.optim.Optimizer], Rule] = {
    torch.optim.SGD: Rule(_sgd_slots, _sgd),
    torch.optim.Adam: Rule(_adam_slots, _adam),
    torch.optim.AdamW: Rule(_adam_slots, _adamw),
    torch.optim.RMSprop: Rule(_rmsprop_slots, _rmsprop),
    torch.optim.Adagrad: Rule(_adagrad_slots, _adagrad),
}
