"""One search by several processes: every rank calls ``find_lr`` and gets the same answer.

Run it with ``torchrun --nproc-per-node 2 examples/ddp.py``; with ``--fsdp`` the weights are
sharded over the processes instead of copied to each.
"""

from __future__ import annotations

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import lrsearch


def data() -> TensorDataset:
    """A small regression: five inputs, one noisy target."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(2048, 5, generator=generator)
    noise = 0.1 * torch.randn(2048, generator=generator)
    return TensorDataset(inputs, (inputs[:, 0].sin() + inputs[:, 1] + noise).unsqueeze(1))


def main() -> None:
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = dist.get_rank()
    device = torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")
    torch.manual_seed(0)
    model: nn.Module = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 1)).to(device)
    if "--fsdp" in sys.argv:
        fully_shard(model)
    else:
        model = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters())
    examples = data()
    loader = DataLoader(examples, batch_size=32, sampler=DistributedSampler(examples))

    result = lrsearch.find_lr(model, optimizer, nn.MSELoss(), loader)

    print(f"rank {rank}: learning rate {result.lr:.4g}", flush=True)
    if rank == 0:  # files are yours to write, once
        result.to_json("ddp.json")
    result.apply(optimizer)  # the planned run starts here
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
