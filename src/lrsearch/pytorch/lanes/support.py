"""What can be trained in lanes, and why something else cannot."""

from __future__ import annotations

import os

import torch
from torch import Tensor, nn

from lrsearch.pytorch.lanes.recipe import LaneRecipe
from lrsearch.pytorch.lanes.updates import RULES

__all__ = ["too_many", "why_not"]

_SHARE = 0.25  # of the memory: what the lanes' parameters and their copies may take


def why_not(recipe: LaneRecipe) -> str | None:
    """Return the reason why this cannot be trained in lanes, ``None`` if nothing speaks against it.

    Nothing is run: whether ``vmap`` can batch the model shows when it is tried.
    """
    if recipe.grad_scaler is not None:
        return "a gradient scaler decides for one run at a time which updates to skip"
    if recipe.autocast:
        return "autocast does not reach every operation that vmap takes apart"
    if recipe.clip_grad_value is not None:
        return "gradients are clipped by value for one run at a time"
    return _of_optimizer(recipe.model, recipe.optimizer) or _of_model(recipe.model)


def _of_optimizer(model: nn.Module, optimizer: torch.optim.Optimizer) -> str | None:
    name = type(optimizer).__name__
    if type(optimizer) not in RULES:
        known = ", ".join(rule.__name__ for rule in RULES)
        return f"{name} has no update for many lanes (there is one for {known})"
    step = vars(optimizer).get("step")
    if step is not None and not hasattr(step, "_wrapped_by_lr_sched"):
        return f"the step function of this {name} was replaced"
    hooks = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    if any(getattr(optimizer, hook, None) for hook in hooks):
        return f"this {name} has step hooks"
    if any(group.get("differentiable") for group in optimizer.param_groups):
        return f"this {name} is differentiable"
    ours = {id(parameter) for parameter in model.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.requires_grad and id(parameter) not in ours:
                return "the optimizer also trains parameters that are not in the model"
            if parameter.is_complex() or parameter.is_sparse:
                return f"parameters of type {parameter.dtype}, {parameter.layout}"
    return None


def _of_model(model: nn.Module) -> str | None:
    for name, module in model.named_modules():
        where = f"module {name!r}" if name else "the model"
        if isinstance(module, torch.jit.ScriptModule):
            return f"{where} is a TorchScript module"
        if hasattr(module, "_orig_mod") or vars(module).get("_compiled_call_impl"):
            return f"{where} was compiled by torch.compile"
        if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            return f"{where} is spread over devices"
        if any(vars(module).get(hooks) for hooks in _HOOKS):
            return f"{where} has hooks, which would see all lanes at once"
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    if len({tensor.device for tensor in tensors}) > 1:
        return "the model is spread over devices"
    if any(p._backward_hooks or getattr(p, "_post_accumulate_grad_hooks", None) for p in tensors):
        return "a parameter has hooks, which would see all lanes at once"
    return None


def too_many(optimizer: torch.optim.Optimizer, count: int) -> str | None:
    """Return why so many lanes will not fit into memory, ``None`` if they may."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    copies = 4  # values, gradients, two moments
    wanted = copies * count * sum(p.numel() * p.element_size() for p in parameters)
    device = parameters[0].device
    if device.type == "cuda":
        there = torch.cuda.get_device_properties(device).total_memory
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        return None
    if wanted <= _SHARE * there:
        return None
    return f"{count} lanes of these parameters would take {wanted / 2**30:.1f} GiB"


_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
