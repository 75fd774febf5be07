"""What ``DistributedDataParallel`` and ``fully_shard`` keep besides tensors, and where they talk.

Both hold state of the update in progress that no ``state_dict`` shows. A reducer also rebuilds
its buckets after the first update, and how gradients lie in buckets decides how their sums are
rounded when there are three processes or more: so it is made anew where the search began with
a new one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.object_state import ObjectState, capture

__all__ = ["WrapperState", "Wrappers"]

_FLAGS = ("require_backward_grad_sync", "require_forward_param_sync")


@dataclass(frozen=True)
class WrapperState:
    """What :meth:`Wrappers.save` saw.

    Attributes:
        flags: of every ``DistributedDataParallel``.
        rebuilt: whether each had rebuilt its buckets.
        objects: what communication hooks remember, such as PowerSGD's error feedback, and
            gradients that lie in a reducer's memory.
    """

    flags: tuple[dict[str, bool], ...]
    rebuilt: tuple[bool, ...]
    objects: ObjectState


@dataclass(frozen=True)
class Wrappers:
    """The modules of a model that spread it over processes.

    Attributes:
        replicas: those in ``DistributedDataParallel``.
        shards: those that ``fully_shard`` was applied to, outer ones first.
        ranks: the processes that train the model together, ascending; none for a model that
            is not wrapped.
    """

    replicas: tuple[DistributedDataParallel, ...]
    shards: tuple[Any, ...]
    ranks: tuple[int, ...]

    @classmethod
    def of(cls, model: nn.Module) -> Wrappers:
        """Find them. Parameters that a forward pass left gathered are sharded again.

        Raises:
            InvalidArgument: the model is wrapped in ``FullyShardedDataParallel``.
        """
        modules = list(model.modules())
        if any(type(module).__name__ == "FullyShardedDataParallel" for module in modules):
            raise InvalidArgument.of(
                "model",
                Words("a module in FullyShardedDataParallel"),
                "one under fully_shard or DistributedDataParallel",
                "torch.distributed.fsdp.fully_shard replaces the older wrapper.",
            )
        sharding = getattr(sys.modules.get("torch.distributed.fsdp"), "FSDPModule", ())
        wrappers = cls(
            replicas=tuple(m for m in modules if isinstance(m, DistributedDataParallel)),
            shards=tuple(m for m in modules if isinstance(m, sharding)),
            ranks=(),
        )
        wrappers.settle()
        return cls(wrappers.replicas, wrappers.shards, _ranks(model, wrappers.replicas))

    def settle(self, failed: bool = False) -> None:
        """Drop what a forward pass left in progress, and with ``failed`` what an update did.

        Args:
            failed: whether an update was begun and not finished.
        """
        for shard in self.shards:
            if failed:
                # While gathered, parameters have gradients that torch itself forgets to drop.
                for parameter in shard.parameters():
                    parameter.grad = None
            shard.reshard()
        if not failed:
            return
        inner = {id(m) for shard in self.shards for m in shard.modules() if m is not shard}
        for shard in self.shards:
            # Since torch 2.13; before it, nothing recovers from an error within forward.
            if id(shard) not in inner and hasattr(shard, "reset_iter_state"):
                shard.reset_iter_state()
        for replica in self.replicas:
            replica.reducer._reset_state()

    def save(self) -> WrapperState:
        """Remember everything that :meth:`restore` brings back."""
        self.settle()
        hooks = [state for replica in self.replicas for _, state in replica._comm_hooks]
        grads = [
            parameter.grad
            for replica in self.replicas
            if replica.gradient_as_bucket_view
            for parameter in replica.parameters()
        ]
        return WrapperState(
            flags=tuple({name: vars(r)[name] for name in _FLAGS} for r in self.replicas),
            rebuilt=tuple(bool(replica._has_rebuilt_buckets) for replica in self.replicas),
            objects=capture([*(("hook", hook) for hook in hooks), ("gradients", grads)]),
        )

    def restore(self, saved: WrapperState, failed: bool) -> None:
        """Return to ``saved``, from after an update or, if it ``failed``, from within one."""
        self.settle(failed)
        for replica, flags, rebuilt in zip(self.replicas, saved.flags, saved.rebuilt, strict=True):
            vars(replica).update(flags)
            if replica._has_rebuilt_buckets and not rebuilt:
                _renew(replica)
        saved.objects.restore()

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Let gradients be exchanged once per update: in the backward pass of the last one.

        Buffers are broadcast here, where every process is known to be well, not within the
        forward pass. Sharded models exchange theirs every time, as they have no room for more.
        """
        with ExitStack() as stack:
            replica: Any
            for replica in self.replicas:
                # A static graph is learned in the first backward pass, which must exchange.
                learning = replica.static_graph and not replica._has_rebuilt_buckets
                if not last and not learning:
                    stack.enter_context(replica.no_sync())
                elif replica._check_sync_bufs_pre_fwd():
                    replica._sync_buffers()
                    replica.require_forward_param_sync = False
            yield

    def finish_exchange(self) -> None:
        """Exchange zeros for the gradients that a backward pass which failed has not come to."""
        for replica in self.replicas:
            parameters = [p for p in replica.parameters() if p.requires_grad]
            with torch.enable_grad(), _without_hooks(parameters):
                for parameter in parameters:
                    # Those whose gradient is on its way already are refused, one by one.
                    with suppress(RuntimeError):
                        torch.autograd.backward(0.0 * parameter.sum())

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        """Let replicas run forward on their own, and change nothing."""
        flags = [replica.require_forward_param_sync for replica in self.replicas]
        try:
            for replica in self.replicas:
                replica.require_forward_param_sync = False
            yield
        finally:
            for replica, flag in zip(self.replicas, flags, strict=True):
                replica.require_forward_param_sync = flag
            self.settle()


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Let a backward pass call nobody's hooks on tensors: one of them may be what failed."""
    names = ("_backward_hooks", "_post_accumulate_grad_hooks")
    found = [hooks for tensor in tensors for name in names if (hooks := getattr(tensor, name))]
    kept = [dict(hooks) for hooks in found]
    for hooks in found:
        hooks.clear()
    try:
        yield
    finally:
        for hooks, before in zip(found, kept, strict=True):
            hooks.update(before)


def _ranks(model: nn.Module, replicas: tuple[DistributedDataParallel, ...]) -> tuple[int, ...]:
    """The processes that share the model; all there are where its parts are shared differently."""
    found = {tuple(dist.get_process_group_ranks(replica.process_group)) for replica in replicas}
    for tensor in model.parameters():
        mesh = getattr(tensor, "device_mesh", None)
        if mesh is not None:
            found.add(tuple(mesh.mesh.flatten().tolist()))
    if len(found) > 1:
        return tuple(range(dist.get_world_size()))
    return tuple(sorted(*found)) if found else ()


def _renew(replica: Any) -> None:
    """Give a replica a reducer as it had before its first update."""
    if replica.mixed_precision is not None:  # its own hooks know the reducer
        replica.reducer._reset_state()
        return
    replica.reducer = replica.logger = None
    parameters, sparse = replica._build_params_for_reducer()
    names = replica._build_debug_param_to_name_mapping(parameters)
    replica._ddp_init_helper(parameters, sparse, names, replica.static_graph)
    replica._has_rebuilt_buckets = False
    if replica.static_graph:
        replica._static_graph_delay_allreduce_enqueued = False
        replica.reducer._set_static_graph()
        replica.logger._set_static_graph()
    for hook, state in replica._comm_hooks:
        replica.logger._set_comm_hook_name(hook.__qualname__)
        dist._register_comm_hook(  # type: ignore[attr-defined]
            replica.reducer, state, hook
        )
