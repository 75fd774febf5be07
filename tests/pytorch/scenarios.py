"""What the processes of a group do in the tests of distributed searches.

Every function runs on each rank and returns plain values; the tests compare them.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks import powerSGD_hook
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler

import lrsearch
from lrsearch.core.search import Plan, Update, run_search
from lrsearch.pytorch import distributed, exchange
from lrsearch.pytorch.distributed import ranks_of
from lrsearch.pytorch.trainable import torch_trainable
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, data, network

LOSS = nn.functional.cross_entropy
SHORT = lrsearch.RangeTest(steps=12)
LONG = lrsearch.RangeTest(steps=60)
BOUNDED = {"method": lrsearch.Sweep([1e-4, 1e-3]), "train_steps": 12}
BATCH = 8

Batches = list[tuple[Tensor, Tensor]]


class Broken(RuntimeError):
    """What the user's own code raises."""


def plain_network(seed: int = 0) -> nn.Sequential:
    """Nothing in it depends on how a batch is split over processes."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(FEATURES, 16), nn.Tanh(), nn.Linear(16, CLASSES))


def shards(rank: int, world: int, count: int = 8) -> Batches:
    """The batches of a rank: the ranks' batches side by side are the data in order."""
    tensors = data(world * BATCH * count).tensors
    inputs, targets = (t.reshape(count, world, BATCH, *t.shape[1:]) for t in tensors)
    return [(inputs[i, rank], targets[i, rank]) for i in range(count)]


def whole(world: int, count: int = 8) -> Batches:
    """The same data for one process."""
    parts = [shards(rank, world, count) for rank in range(world)]
    return [
        (torch.cat([x for x, _ in row]), torch.cat([y for _, y in row]))
        for row in zip(*parts, strict=True)
    ]


def exact(batches: Batches) -> Batches:
    """Double precision: at high learning rates training blows rounding up."""
    return [(inputs.double(), targets) for inputs, targets in batches]


def replicated(model: nn.Module, **options: Any) -> nn.Module:
    return DistributedDataParallel(model, **options)


def sharded(model: nn.Module) -> nn.Module:
    for layer in model.children():
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    return fully_shard(model)


WRAP: dict[str, Callable[[nn.Module], nn.Module]] = {"ddp": replicated, "fsdp": sharded}


def adam(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=1e-3)


def find(model: nn.Module, optimizer: Any, batches: Any, **options: Any) -> lrsearch.Result:
    defaults = {"method": SHORT, "progress": False, "throw": False, "loss_fn": LOSS}
    options = {**defaults, **options}
    return lrsearch.find_lr(model, optimizer, options.pop("loss_fn"), batches, **options)


def summary(result: lrsearch.Result) -> dict[str, Any]:
    return {
        "lr": result.lr,
        "status": result.status.name,
        "losses": [curve.loss.tolist() for curve in result.curves],
        "held out": [curve.evaluations for curve in result.curves],
        "stops": [curve.stop.name for curve in result.curves],
        "lanes": result.settings["lanes"],
    }


def train(model: nn.Module, optimizer: Any, batches: Any, steps: int) -> list[float]:
    model.train()
    losses = []
    for step in range(steps):
        inputs, targets = batches[step % len(batches)]
        optimizer.zero_grad()
        loss = LOSS(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# -------------------------------------------------------------------------------- one answer


def curves(rank: int, world: int, wrapper: str, **options: Any) -> dict[str, Any]:
    model = WRAP[wrapper](plain_network().double())
    return summary(find(model, adam(model), exact(shards(rank, world)), method=LONG, **options))


def race(rank: int, world: int) -> dict[str, Any]:
    """With held-out shards of different lengths."""
    model = replicated(plain_network())
    held_out = shards(rank, world, 4)[: 2 + rank]
    settings = {"method": lrsearch.Race(budget=3.0), "train_steps": 40}
    return summary(find(model, adam(model), shards(rank, world), val_loader=held_out, **settings))


def held_out_of(rank: int, world: int) -> Batches:
    """Batches of different sizes; the last rank has none at all."""
    if rank == world - 1:
        return []
    size = 3 + rank
    return [(x[:size], y[:size]) for x, y in shards(rank, world)[: 1 + rank]]


def held_out(rank: int, world: int, wrapper: str) -> float:
    model = WRAP[wrapper](network())
    own = held_out_of(rank, world)
    with ranks_of(model) as ranks:
        trainable: Any = torch_trainable(
            model, adam(model), LOSS, shards(rank, world), val_loader=own, ranks=ranks
        )
        before = trainable.snapshot()
        first = trainable.evaluate()
        assert trainable.evaluate() == first
        trainable.step(0.1)
        trainable.restore(before)
        assert trainable.evaluate() == first
        return float(first.loss)


def diverging(rank: int, world: int, wrapper: str) -> dict[str, Any]:
    """One rank, the last, sees NaN at its ninth update."""
    model = WRAP[wrapper](plain_network())
    calls = iter(range(1000))

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        hurt = next(calls) == 8 and rank == world - 1
        return LOSS(outputs, targets) * (float("nan") if hurt else 1.0)

    return summary(find(model, adam(model), shards(rank, world), loss_fn=loss_fn, **BOUNDED))


def settings_differ(rank: int, world: int) -> str:
    model = replicated(plain_network())
    try:
        find(model, adam(model), shards(rank, world), train_steps=10 + rank)
    except lrsearch.InvalidArgument as error:
        return str(error)
    return "nothing was said"


DIFFERENT: dict[str, dict[str, Any]] = {
    "optimizer": {"optimizers": (adam, lambda m: torch.optim.SGD(m.parameters(), lr=0.1))},
    "optimizer.param_groups[0]['eps']": {
        "optimizers": (adam, lambda m: torch.optim.Adam(m.parameters(), lr=0.1, eps=1e-3))
    },
    "optimizer.param_groups": {
        "optimizers": (adam, lambda m: torch.optim.Adam([{"params": [p]} for p in m.parameters()]))
    },
    "autocast": {"options": ({}, {"autocast": torch.bfloat16})},
    "compute_loss": {"options": ({}, {"compute_loss": lambda m, b: LOSS(m(b[0]), b[1])})},
    "loss_fn": {"options": ({}, {"loss_fn": nn.CrossEntropyLoss()})},
    "method": {"options": ({}, {"method": lrsearch.RangeTest(steps=13)})},
    "accumulate": {"options": ({}, {"accumulate": 2})},
    "seed": {"options": ({}, {"seed": 3})},
}


def differing(rank: int, world: int, name: str) -> str:
    optimizers = DIFFERENT[name].get("optimizers", (adam, adam))
    options = DIFFERENT[name].get("options", ({}, {}))
    model = replicated(plain_network())
    try:
        find(model, optimizers[rank](model), shards(rank, world), **options[rank])
    except lrsearch.InvalidArgument as error:
        return str(error)
    return "nothing was said"


def held_out_nan(rank: int, world: int, method: str) -> tuple[str, str]:
    model = replicated(plain_network())
    (x, y), *_ = shards(rank, world)
    held_out = [(x * (float("nan") if rank == 1 else 1.0), y)]
    result = find(
        model, adam(model), shards(rank, world), val_loader=held_out, method=method, train_steps=30
    )
    return result.status.name, result.why


def _waiting(search: Callable[[], Any]) -> tuple[str, str]:
    """What a search says on standard error and raises, where waiting is short."""
    said = io.StringIO()
    for name, seconds in (
        ("_LATE", 1.0),
        ("_NOTICE", 1.0),
        ("_COMING", 4.0),
        ("_LIMIT", 5.0),
    ):
        setattr(exchange, name, timedelta(seconds=seconds))
    with contextlib.redirect_stderr(said):
        try:
            search()
            return said.getvalue(), "nothing"
        except lrsearch.LRSearchError as error:
            return said.getvalue(), f"{type(error).__name__}: {error}"


def never_comes(rank: int, world: int) -> tuple[str, str]:
    model = replicated(plain_network())
    if rank == 1:
        time.sleep(6.0)
        return "", ""
    return _waiting(lambda: find(model, adam(model), shards(rank, world)))


def comes_once_more(rank: int, world: int) -> tuple[str, str]:
    model = replicated(plain_network())
    find(model, adam(model), shards(rank, world))
    if rank == 0:
        time.sleep(6.0)
        return "", ""
    return _waiting(lambda: find(model, adam(model), shards(rank, world)))


def unwrapped_on_one(rank: int, world: int) -> tuple[str, str]:
    model = replicated(plain_network())
    if rank == 1:
        find(model.module, adam(model), shards(rank, world))  # type: ignore[arg-type]
        time.sleep(6.0)
        return "", ""
    return _waiting(lambda: find(model, adam(model), shards(rank, world)))


def hangs_in_the_middle(rank: int, world: int) -> tuple[str, str]:
    model = replicated(plain_network())
    batches = shards(rank, world)

    def read() -> Iterator[Any]:
        yield from batches[:3]
        if rank == 1:
            time.sleep(8.0)
        yield from batches[3:]

    said, error = _waiting(lambda: find(model, adam(model), read))
    return said, error


def not_wrapped(rank: int, world: int) -> bool:
    """Only one rank searches: it must not wait for any other."""
    if rank != 0:
        return True
    model = plain_network()
    return find(model, adam(model), shards(rank, world)).curves[0].loss.size > 0


def two_teams(rank: int, world: int) -> dict[str, Any]:
    """Each half of the processes trains a model of its own, at the same time."""
    half = world // 2
    teams = [dist.new_group(list(range(start, start + half))) for start in (0, half)]
    team = rank // half
    model = replicated(plain_network(seed=team), process_group=teams[team])
    return summary(find(model, adam(model), shards(rank, world), method=LONG))


def progress_is_shown_by(rank: int, world: int) -> tuple[bool, bool]:
    model = replicated(plain_network())
    with ranks_of(model) as ranks, ranks_of(plain_network()) as alone:
        return ranks.leads, alone.leads


# --------------------------------------------------------------------------------- no trace


def no_trace(
    rank: int, world: int, wrapper: str, trained: int, search: Callable[..., Any], net: Any
) -> bool:
    """Train, perhaps search, train: whether all losses and states are the same either way."""

    def run(searching: bool) -> Any:
        model = WRAP[wrapper](net())
        optimizer = adam(model)
        torch.manual_seed(100 + rank)
        losses = train(model, optimizer, shards(rank, world), trained)
        if searching:
            before = fingerprint(model, optimizer)
            search(rank, world, model, optimizer)
            assert fingerprint(model, optimizer) == before
        losses += train(model, optimizer, shards(rank, world), 6)
        state = fingerprint(model, optimizer)
        return losses, {key: state[key] for key in ("tensors", "optimizer", "torch")}

    return bool(run(searching=True) == run(searching=False))


def searched(rank: int, world: int, model: nn.Module, optimizer: Any, **options: Any) -> None:
    find(model, optimizer, shards(rank, world), **options)


def searched_twice(rank: int, world: int, model: nn.Module, optimizer: Any) -> None:
    for _ in range(2):
        searched(rank, world, model, optimizer, val_loader=shards(rank, world, 2))


def failed(
    rank: int,
    world: int,
    model: nn.Module,
    optimizer: Any,
    *,
    place: str,
    error: Any = Broken,
    everybody: bool = False,
) -> None:
    """Search with a last rank that fails in its fourth update; check what everybody is told."""
    calls = iter(range(1000))
    culprit = rank if everybody else world - 1

    def maybe() -> None:
        if next(calls) == 3 and rank == culprit:
            if error is KeyboardInterrupt:
                os.kill(os.getpid(), signal.SIGINT)
            else:
                raise error("on purpose")

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        if place == "loss":
            maybe()
        return LOSS(outputs, targets)

    def batches() -> Iterator[Any]:
        for batch in shards(rank, world):
            if place == "loader":
                maybe()
            yield batch

    def observer(_: Update) -> None:
        if place == "progress":
            maybe()

    hook = None
    if place == "step":
        hook = optimizer.register_step_pre_hook(lambda *_: maybe())
    inner: Any = model.module if isinstance(model, DistributedDataParallel) else model
    if place == "forward":
        hook = inner[2].register_forward_pre_hook(lambda *_: maybe())
    if place == "backward":
        hook = inner[2].register_full_backward_hook(lambda *_: maybe())
    if place == "first layer":
        hook = inner[0].weight.register_hook(lambda _: maybe())
    if place == "own hook":
        hook = inner[0].bias.register_post_accumulate_grad_hook(lambda _: maybe())
    told: str
    try:
        with ranks_of(model) as ranks:
            trainable = torch_trainable(model, optimizer, loss_fn, batches, ranks=ranks)
            run_search(trainable, SHORT, Plan(), observer)
        told = "nothing"
    except (error, lrsearch.RankFailed) as raised:
        told = f"{type(raised).__name__}: {raised}"
    finally:
        if hook is not None:
            hook.remove()
    name = error.__name__
    wanted = name if rank == culprit else f"RankFailed: rank {culprit} failed with {name}"
    assert told.startswith(wanted), told


def gradients_in_buckets(rank: int, world: int) -> bool:
    """The user's own gradients lie in the reducer's memory, which the search writes over."""
    model = replicated(plain_network(), gradient_as_bucket_view=True)
    optimizer = adam(model)
    train(model, optimizer, shards(rank, world), 3)
    before = fingerprint(model, optimizer)
    find(model, optimizer, shards(rank, world))
    return fingerprint(model, optimizer) == before


class Branches(nn.Module):
    """Only one of two layers is used, which one depends on the batch."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(FEATURES, CLASSES) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[int(x.sum() > 0)](x)  # type: ignore[no-any-return]


def unused_parameters(rank: int, world: int) -> bool:
    WRAP["unused"] = partial(replicated, find_unused_parameters=True)
    return no_trace(rank, world, "unused", 2, partial(failed, place="loss"), Branches)


def static_graph(rank: int, world: int) -> bool:
    WRAP["static"] = partial(replicated, static_graph=True)
    return no_trace(rank, world, "static", 0, partial(searched, accumulate=2), network)


def compressed(rank: int, world: int) -> bool:
    """PowerSGD keeps the error of one update for the next."""
    WRAP["compressed"] = _compressing
    return no_trace(rank, world, "compressed", 3, searched, _wide_network)


def _wide_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(FEATURES, 64), nn.Tanh(), nn.Linear(64, CLASSES))


def _compressing(model: nn.Module) -> nn.Module:
    wrapped: Any = replicated(model)
    state = powerSGD_hook.PowerSGDState(
        None, matrix_approximation_rank=1, start_powerSGD_iter=2, min_compression_rate=1.1
    )
    wrapped.register_comm_hook(state, powerSGD_hook.powerSGD_hook)
    return wrapped  # type: ignore[no-any-return]


# ------------------------------------------------------------------------------ one exchange


def exchanges(rank: int, world: int) -> tuple[int, int, list[float]]:
    """How often gradients are exchanged in 5 updates of 3 micro-batches; the weights after."""
    model = replicated(plain_network())
    seen: list[int] = []

    def hook(_: object, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
        seen.append(bucket.index())
        buffer = bucket.buffer()
        dist.all_reduce(buffer)
        future: torch.futures.Future[Tensor] = torch.futures.Future()
        future.set_result(buffer / world)
        return future

    # DDP compares the annotations themselves, not their text.
    hook.__annotations__.update({"bucket": dist.GradBucket, "return": torch.futures.Future[Tensor]})
    model.register_comm_hook(None, hook)  # type: ignore[operator]
    with ranks_of(model) as ranks:
        trainable = torch_trainable(
            model, adam(model), LOSS, shards(rank, world), accumulate=3, ranks=ranks
        )
        before = trainable.snapshot()
        losses = [trainable.step(0.01) for _ in range(5)]
        trainable.restore(before)
        again = [trainable.step(0.01) for _ in range(5)]
        trainable.restore(before)
    assert losses == again
    return len(seen), max(seen), losses


def uneven_groups(rank: int, world: int, wrapper: str) -> list[float]:
    """Loaders of different lengths end their passes at different updates."""
    model = WRAP[wrapper](plain_network())
    batches = shards(rank, world)[: 4 + rank]
    with ranks_of(model) as ranks:
        trainable = torch_trainable(model, adam(model), LOSS, batches, accumulate=3, ranks=ranks)
        before = trainable.snapshot()
        for _ in range(5):
            trainable.step(0.01)
        weights = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model.parameters()]
        total = [float(weight.detach().double().sum()) for weight in weights]
        trainable.restore(before)
    return total


def scaled(rank: int, world: int, wrapper: str) -> tuple[list[float], int, float]:
    """Gradients overflow on the last rank only; losses, batches read, and the scale after."""
    model = WRAP[wrapper](plain_network())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    calls = 0

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return LOSS(outputs, targets) * (1e37 if calls == 3 and rank == world - 1 else 1.0)

    with ranks_of(model) as ranks:
        trainable = torch_trainable(
            model, adam(model), loss_fn, shards(rank, world), grad_scaler=scaler, ranks=ranks
        )
        before = trainable.snapshot()
        losses = [trainable.step(0.01) for _ in range(4)]
        scale = scaler.get_scale()
        trainable.restore(before)
    return losses, calls, scale


# ------------------------------------------------------------------------ data and randomness


def sampled(rank: int, world: int) -> tuple[list[int], int]:
    """The examples of the first pass, and the epoch of the sampler afterwards."""
    seen: list[int] = []
    sampler: DistributedSampler[Any] = DistributedSampler(range(64), world, rank)
    sampler.set_epoch(3)
    loader = DataLoader(range(64), 4, sampler=sampler)  # type: ignore[arg-type,var-annotated]
    model = replicated(nn.Linear(1, 1))

    def compute_loss(model: Any, batch: Tensor) -> Tensor:
        seen.extend(batch.tolist())
        return model(batch[:, None].float() / 64).square().mean()  # type: ignore[no-any-return]

    find(model, adam(model), loader, loss_fn=None, compute_loss=compute_loss, **BOUNDED)
    return seen[: 64 // world], sampler.epoch


def draws(rank: int, world: int, seeds: str) -> list[float]:
    """What dropout and a shuffling loader would draw."""
    loader = DataLoader(data(), BATCH, shuffle=True)
    seen: list[float] = []

    def compute_loss(model: Any, batch: Any) -> Tensor:
        seen.extend((float(batch[0].sum()), float(torch.rand(()))))
        return LOSS(model(batch[0]), batch[1])

    model = replicated(plain_network())
    torch.manual_seed(7 if seeds == "alike" else rank)
    find(model, adam(model), loader, loss_fn=None, compute_loss=compute_loss)
    return seen[:10]


# --------------------------------------------------------------------------- a process is lost


def lost(rank: int, world: int, wrapper: str, place: str) -> tuple[str, bool]:
    """The last rank ends where the others cannot meet it; they must come to know, restored."""
    distributed._PATIENCE = timedelta(seconds=1)
    model = WRAP[wrapper](network())
    optimizer = adam(model)
    train(model, optimizer, shards(rank, world), 2)
    before = fingerprint(model, optimizer)
    calls = iter(range(1000))
    inner: Any = model.module if isinstance(model, DistributedDataParallel) else model

    def maybe() -> None:
        if next(calls) == 3 and rank == world - 1:
            if place == "killed":
                os._exit(9)
            raise Broken("on purpose")

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        if place == "killed":
            maybe()
        return LOSS(outputs, targets)

    hook = None
    if place == "backward":
        hook = inner[2].register_full_backward_hook(lambda *_: maybe())
    elif place == "forward":
        hook = inner[2].register_forward_pre_hook(lambda *_: maybe())
    try:
        find(model, optimizer, shards(rank, world), loss_fn=loss_fn)
    except Exception as error:
        if hook is not None:
            hook.remove()
        return f"{type(error).__name__}: {error}", fingerprint(model, optimizer) == before
    return "nothing was said", False
