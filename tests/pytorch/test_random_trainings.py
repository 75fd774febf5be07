"""Trainings drawn at random: after a search, however it ended, each goes on as without one."""

from __future__ import annotations

import random
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

import lrsearch
from tests.pytorch.fingerprint import fingerprint, plain

FAST, ALL = 40, 400
X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0))
Y = (X.sum(1) > 0).long()
CROSS_ENTROPY = nn.functional.cross_entropy


# ------------------------------------------------------------------------------------------ models


class Recurrent(nn.Module):
    """A hidden state, a memory and counts in plain attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 6), nn.Linear(6, 2)
        self.hidden: Tensor | None = None
        self.memory: deque[Tensor] = deque(maxlen=3)
        self.counts: Counter[bool] = Counter()

    def forward(self, x: Tensor) -> Tensor:
        fits = self.hidden is not None and len(self.hidden) == len(x)
        hidden = (
            self.hidden.detach() if fits and self.hidden is not None else x.new_zeros(len(x), 6)
        )
        self.hidden = self.cell(x, hidden.float())
        self.counts[self.training] += 1
        self.memory.append(self.hidden.detach().mean(0))
        return self.head(self.hidden + torch.stack([*self.memory]).mean(0))  # type: ignore[no-any-return]


class Averaged(nn.Module):
    """An average of the weights, kept in a list; noise from a generator of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.head, self.teacher = nn.Linear(4, 2), [nn.Linear(4, 2)]
        self.numpy, self.python = np.random.default_rng(3), random.Random(3)
        self.torch = torch.Generator().manual_seed(3)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            pairs = zip(self.teacher[0].parameters(), self.head.parameters(), strict=True)
            for one, other in pairs:
                one.lerp_(other, 0.1)
        scale = 1.0 + 0.1 * self.numpy.random() + 0.1 * self.python.random()
        noise = 0.1 * torch.randn(x.shape, generator=self.torch)
        return self.head(x * scale + noise) + self.teacher[0](x)  # type: ignore[no-any-return]


class Built(nn.Module):
    """Parts, buffers and hooks made by the first forward pass; a bank that grows; work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(4, 4), nn.Linear(4, 2)
        self.register_buffer("bank", torch.empty(0, 4))
        self.bank: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "mask"):
            self.register_buffer("mask", torch.full((4,), 0.5))
            self.act = nn.Tanh()
            self.body.register_forward_hook(lambda *_: None)
        x.mul_(self.mask)
        if self.training and len(self.bank) < 30:
            with torch.no_grad():
                self.bank.resize_(len(self.bank) + 1, 4)
                self.bank[-1] = x.mean(0)
        return self.head(self.act(self.body(x)) + 0.1 * self.bank.sum(0))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Shared layers, an embedding that is renormed in forward, frozen and half-frozen parts."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Linear(4, 4)
        self.table = nn.Embedding(8, 4, max_norm=0.5)
        self.norm, self.head = nn.BatchNorm1d(4).eval(), nn.Linear(4, 2)
        self.one.bias.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        rows = (x[:, 0].abs() * 4).long().clamp(max=7)
        return self.head(self.norm(self.other(self.one(x)) + self.table(rows)))  # type: ignore[no-any-return]


def network() -> nn.Module:
    return nn.Sequential(
        *(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(inplace=True), nn.Dropout(0.2)),
        nn.Linear(8, 2),
    )


MODELS: dict[str, Callable[[], nn.Module]] = {
    "network": network,
    "recurrent": Recurrent,
    "averaged": Averaged,
    "built": Built,
    "tied": Tied,
}

# -------------------------------------------------------------------------------------- optimizers


class Lookahead(torch.optim.Optimizer):
    """Steps another optimizer, and keeps slow weights in containers of its own."""

    def __init__(self, inside: torch.optim.Optimizer) -> None:
        super().__init__([p for g in inside.param_groups for p in g["params"]], inside.defaults)
        self.inside, self.count = inside, 0
        self.param_groups = inside.param_groups
        self.slow: dict[int, Tensor] = {}
        self.past: deque[float] = deque(maxlen=5)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.inside.step()
        self.count += 1
        for place, p in enumerate(p for group in self.param_groups for p in group["params"]):
            slow = self.slow.setdefault(place, p.clone())
            if self.count % 3 == 0:
                p.copy_(slow.lerp_(p, 0.5))
        self.past.append(float(self.param_groups[0]["lr"]))


class OldStyle(torch.optim.SGD):
    """Writes through ``.data``, which torch's counters of changes do not see."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = p.data - group["lr"] * p.grad.data


def two_groups(model: nn.Module) -> torch.optim.Optimizer:
    first, *rest = model.parameters()
    groups = [{"params": [first], "lr": 1e-3}, {"params": rest, "weight_decay": 0.1}]
    return torch.optim.AdamW(groups, lr=1e-2, amsgrad=True)


OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "momentum": lambda m: torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda m: torch.optim.Adam(m.parameters(), lr=1e-2),
    "rate in a tensor": lambda m: torch.optim.Adam(m.parameters(), lr=torch.tensor(1e-2)),
    "two groups": two_groups,
    "RMSprop": lambda m: torch.optim.RMSprop(m.parameters(), lr=1e-3, centered=True),
    "lookahead": lambda m: Lookahead(torch.optim.Adam(m.parameters(), lr=1e-2)),
    "old style": lambda m: OldStyle(m.parameters(), lr=0.1),
}

# ----------------------------------------------------------------------------------------- loaders


class Stream(IterableDataset[Any]):
    """Counts its passes itself."""

    passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        order = random.Random(self.passes).sample(range(40), 40)
        return ((X[i], Y[i]) for i in order)


class Shuffling(Sampler[int]):
    """Shuffles an array of its own in place, and remembers how often."""

    def __init__(self) -> None:
        self.order, self.rng, self.epoch = np.arange(40), np.random.default_rng(5), 0

    def __len__(self) -> int:
        return 40

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.rng.shuffle(self.order)
        return iter(np.roll(self.order, self.epoch).tolist())


class Resumable:
    """Has a place that can be saved and set."""

    def __init__(self) -> None:
        self.start = self.at = 0

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        for self.at in range(start, 5):
            yield X[self.at * 8 : self.at * 8 + 8], Y[self.at * 8 : self.at * 8 + 8]

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["at"]


def resumed() -> Resumable:
    loader = Resumable()
    loader.load_state_dict({"at": 2})
    return loader


def shuffled(**options: Any) -> DataLoader[Any]:
    return DataLoader(TensorDataset(X, Y), 8, **options)


LOADERS: dict[str, Callable[[], Any]] = {
    "list": lambda: [(x.clone(), y.clone()) for x, y in zip(X.split(8), Y.split(8), strict=True)],
    "shuffled": lambda: shuffled(shuffle=True),
    "generator": lambda: shuffled(shuffle=True, generator=torch.Generator().manual_seed(4)),
    "stream": lambda: DataLoader(Stream(), 8),
    "sampler": lambda: shuffled(sampler=Shuffling()),
    "resumed": resumed,
    "with replacement": lambda: shuffled(
        sampler=torch.utils.data.RandomSampler(range(40), replacement=True)
    ),
}

# ------------------------------------------------------------------------------- options, endings


class Centred(nn.Module):
    """A loss with statistics, a parameter that nobody steps, and a count."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.zeros(2))
        self.centre: Tensor
        self.shift, self.calls = nn.Parameter(torch.zeros(2)), 0

    def forward(self, out: Tensor, y: Tensor) -> Tensor:
        self.calls += 1
        with torch.no_grad():
            self.centre.lerp_(out.float().mean(0), 0.1)
        return CROSS_ENTROPY(out + self.shift, y) + (out - self.centre).square().mean()


LOSSES: dict[str, Callable[[], Any]] = {"function": lambda: CROSS_ENTROPY, "module": Centred}
METHODS: dict[str, dict[str, Any]] = {
    "range": {"method": lrsearch.RangeTest(steps=12)},
    "ladder": {"method": lrsearch.Ladder(updates=1, min_lr=1e-3, max_lr=1.0)},
    "sweep": {"method": lrsearch.Sweep([1e-3, 1e-1]), "train_steps": 7},
    "race": {"method": "race", "train_steps": 12},
}
OPTIONS: dict[str, dict[str, Any]] = {
    "none": {},
    "accumulate": {"accumulate": 2},
    "clip the norm": {"clip_grad_norm": 0.5, "accumulate": 3},
    "clip values": {"clip_grad_value": 0.1},
    "autocast": {"autocast": torch.bfloat16},
    "on disk": {"snapshot_to": "disk"},
    "in memory": {"snapshot_to": "cpu", "seed": 7},
}
ENDINGS = ("success", "forward", "backward", "step", "loader", "interrupt", "Ctrl-C")


class Broken(Exception):
    """On purpose."""


class Fuse:
    """Breaks at a given use while it is armed. Held in a closure, where no search puts it back."""

    def __init__(self, ending: str, uses: int) -> None:
        self.ending, self.left, self.armed = ending, uses, False

    def use(self, place: str) -> None:
        wanted = {"interrupt": "forward", "Ctrl-C": "step"}.get(self.ending, self.ending)
        if not self.armed or place != wanted:
            return
        self.left -= 1
        if self.left:
            return
        if self.ending == "Ctrl-C":
            signal.raise_signal(signal.SIGINT)
        raise KeyboardInterrupt if self.ending == "interrupt" else Broken(self.ending)


class BreaksBackward(torch.autograd.Function):
    """The identity, which uses a fuse in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, fuse: Fuse) -> Tensor:
        ctx.fuse = fuse
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        ctx.fuse.use("backward")
        return grads[0], None


@dataclass(frozen=True)
class Case:
    """One training and one search in it."""

    model: str
    optimizer: str
    loader: str
    loss: str
    held_out: str
    method: str
    options: str
    ending: str
    uses: int
    warm: int

    @classmethod
    def drawn(cls, seed: int) -> Case:
        draw = random.Random(seed)
        return cls(
            model=draw.choice([*MODELS]),
            optimizer=draw.choice([*OPTIMIZERS]),
            loader=draw.choice([*LOADERS]),
            loss=draw.choice([*LOSSES]),
            held_out=draw.choice(["none", *LOADERS]),
            method=draw.choice([*METHODS]),
            options=draw.choice([*OPTIONS]),
            ending=draw.choice(ENDINGS),
            uses=draw.randint(1, 15),
            warm=draw.choice([0, 3, 7]),
        )

    def __str__(self) -> str:
        return ", ".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self))


def seed() -> None:
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)


class Training:
    """The plain loop of a case, and its search."""

    def __init__(self, case: Case) -> None:
        seed()
        self.case, self.fuse = case, Fuse(case.ending, case.uses)
        self.model = MODELS[case.model]()
        self.optimizer = OPTIMIZERS[case.optimizer](self.model)
        self.loader, self.loss = LOADERS[case.loader](), LOSSES[case.loss]()
        self.held_out = None if case.held_out == "none" else LOADERS[case.held_out]()
        fuse = self.fuse
        self.optimizer.register_step_pre_hook(lambda *_: fuse.use("step"))

    def train(self, steps: int) -> list[float]:
        seed()  # as two trainings share one process
        losses: list[float] = []
        while len(losses) < steps:
            for x, y in self.loader:
                self.optimizer.zero_grad()
                loss = self.loss(self.model(x.clone()), y)
                loss.backward()
                self.optimizer.step()
                losses.append(loss.item())
                if len(losses) == steps:
                    break
        return losses

    def search(self) -> str:
        fuse, loss = self.fuse, self.loss

        def compute_loss(model: nn.Module, batch: Any) -> Tensor:
            fuse.use("forward")
            return BreaksBackward.apply(loss(model(batch[0]), batch[1]), fuse)  # type: ignore[no-any-return,no-untyped-call]

        inner = {} if loss is CROSS_ENTROPY else {"stateful": [loss]}
        function = self.case.ending == "loader"
        fuse.armed = True
        try:
            lrsearch.find_lr(
                self.model,
                self.optimizer,
                None,
                Through(self.loader, fuse) if function else self.loader,
                compute_loss=compute_loss,
                val_loader=self.held_out,
                progress=False,
                throw=False,
                **METHODS[self.case.method],
                **OPTIONS[self.case.options],
                **inner,
            )
        except (Broken, KeyboardInterrupt) as error:
            return type(error).__name__
        finally:
            fuse.armed = False
        return "success"

    def look(self) -> Any:
        own = self.loss if isinstance(self.loss, nn.Module) else nn.Identity()
        grads = [None if p.grad is None else plain(p.grad) for p in own.parameters()]
        state = fingerprint(self.model, self.optimizer)
        state.pop("identity")
        state["grads"] = {k: v and v[1] for k, v in state["grads"].items()}
        switches = torch.is_grad_enabled(), torch.is_autocast_enabled("cpu")
        return state, plain(own.state_dict()), grads, switches


class Through:
    """A loader that uses a fuse at every batch."""

    def __init__(self, loader: Any, fuse: Fuse) -> None:
        self.loader = loader
        self.use = lambda: fuse.use("loader")

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.use()
            yield batch


def random_states() -> Any:
    numpy = plain(np.random.get_state(legacy=False))  # noqa: NPY002
    return random.getstate(), numpy, plain(torch.get_rng_state())


def check(number: int) -> None:
    case = Case.drawn(number)
    plainly, searched = Training(case), Training(case)
    first = plainly.train(case.warm)
    assert searched.train(case.warm) == first
    before = random_states()
    ended = searched.search()
    assert random_states() == before, str(case)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert searched.look() == plainly.look(), f"{case}: left changed by a search that {ended}"
    assert searched.train(12) == plainly.train(12), f"{case}: trains on otherwise after {ended}"
    assert searched.look() == plainly.look(), str(case)


@pytest.mark.parametrize("number", range(FAST))
def test_training_after_a_search_equals_training_without(number: int) -> None:
    check(number)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(FAST, ALL, 40))
def test_more_trainings_after_a_search_equal_those_without(start: int) -> None:
    for number in range(start, start + 40):
        check(number)


def test_every_ending_occurs() -> None:
    drawn = Counter(Case.drawn(number).ending for number in range(FAST))
    assert set(drawn) == set(ENDINGS)
