"""The nets that batched trials are measured on, and the ways to train several copies of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn import functional as F

from lrsearch.pytorch.trainable import TorchTrainable
from lrsearch.pytorch.vectorized import BatchedTrials
from lrsearch.pytorch.vectorized.gradients import Objective, traced

Action = Callable[[], object]
LR = 1e-5  # nothing diverges or is learned by heart: only the time counts
BATCHES = 16


@dataclass(frozen=True)
class Net:
    """A net of dense layers and its data.

    Attributes:
        name: what the tables call it.
        sizes: features of input, hidden layers and output.
        batch: examples per batch.
        activation: between the layers.
        classes: whether the targets are classes, else numbers.
    """

    name: str
    sizes: tuple[int, ...]
    batch: int
    activation: type[nn.Module]
    classes: bool

    def model(self) -> nn.Sequential:
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for fan_in, fan_out in zip(self.sizes[:-1], self.sizes[1:], strict=True):
            layers += [nn.Linear(fan_in, fan_out), self.activation()]
        return nn.Sequential(*layers[:-1])

    def loss(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target) if self.classes else F.mse_loss(output, target)

    def batches(self) -> list[tuple[Tensor, Tensor]]:
        torch.manual_seed(1)
        inputs = torch.randn(BATCHES, self.batch, self.sizes[0])
        if self.classes:
            targets = torch.randint(self.sizes[-1], (BATCHES, self.batch))
        else:
            targets = torch.randn(BATCHES, self.batch, self.sizes[-1])
        return list(zip(inputs, targets, strict=True))


TWO_LAYER = Net("two-layer net 1-20-1", (1, 20, 1), 20, nn.Sigmoid, False)
LOGISTIC = Net("logistic regression 64-10", (64, 10), 64, nn.ReLU, True)
MLP = Net("MLP 64-64-10", (64, 64, 10), 64, nn.ReLU, True)
NETS = (TWO_LAYER, LOGISTIC, MLP)

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=LR),
    "Adam": lambda p: torch.optim.Adam(p, lr=LR),
}


def trainable(net: Net, optimizer: str) -> TorchTrainable:
    model = net.model()
    made = OPTIMIZERS[optimizer](model.parameters())
    return TorchTrainable(model, made, net.loss, net.batches(), vectorise=True)


def batched_step(net: Net, optimizer: str, trials: int) -> tuple[Action, BatchedTrials]:
    """One step of all trials; the group must be closed."""
    group = trainable(net, optimizer).lanes(trials, 1000)
    if group is None:
        raise RuntimeError("these nets can be batched")
    lrs = [LR] * trials
    for _ in range(4):
        group.step(lrs)
    return lambda: group.step(lrs), group


def bare_steps(net: Net, optimizer: str, trials: int) -> Action:
    """One step of as many separate nets, in the shortest training loop there is."""
    batches = net.batches()
    runs = []
    for _ in range(trials):
        model = net.model()
        runs.append((model, OPTIMIZERS[optimizer](model.parameters())))

    def update() -> list[float]:
        inputs, targets = batches[0]
        losses = []
        for model, made in runs:
            made.zero_grad()
            loss = net.loss(model(inputs), targets)
            loss.backward()  # type: ignore[no-untyped-call]
            made.step()
            losses.append(loss.item())
        return losses

    return update


def trainable_steps(net: Net, optimizer: str, trials: int) -> Action:
    """One step of as many separate trainables: what a search does sequentially."""
    runs = [trainable(net, optimizer) for _ in range(trials)]
    return lambda: [run.step(LR) for run in runs]


def roofline(net: Net, trials: int, turned: bool) -> Action:
    """The matrix products of one update, forward and backward, on tensors that lie ready.

    ``turned``: with the examples along the last axis, else along the one before.
    """
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, (fan_in, fan_out) in enumerate(zip(net.sizes[:-1], net.sizes[1:], strict=True)):
        weight = torch.randn(trials, fan_out, fan_in)
        if turned:
            x, g = torch.randn(trials, fan_in, net.batch), torch.randn(trials, fan_out, net.batch)
            pairs += [(weight, x), (g, x.mT)]
            pairs += [(weight.mT, g)] if number else []
        else:
            x, g = torch.randn(trials, net.batch, fan_in), torch.randn(trials, net.batch, fan_out)
            pairs += [(x, weight.mT), (g.mT, x)]
            pairs += [(g, weight)] if number else []
    return lambda: [torch.bmm(one, other) for one, other in pairs]


# ------------------------------------------------------------- ways to get the gradients


def ways(net: Net, trials: int) -> dict[str, Action]:
    """Losses and gradients of all trials, without the update, computed in several ways."""
    model = net.model()
    inputs, targets = batch = net.batches()[0]
    repeated = {n: p.detach().repeat(trials, *[1] * p.ndim) for n, p in model.named_parameters()}
    leaves = {name: parameter.requires_grad_() for name, parameter in repeated.items()}
    objective = Objective(model, lambda m, both: net.loss(m(both[0]), both[1]))

    def of_gradient() -> object:
        def loss(parameters: dict[str, Tensor]) -> Tensor:
            return net.loss(functional_call(model, parameters, (inputs,)), targets)

        return vmap(grad_and_value(loss))({name: leaf.detach() for name, leaf in leaves.items()})

    def by_trace(layouts: bool, shortened: bool) -> Action:
        def step(*tensors: Tensor) -> list[Tensor | None]:
            parameters = dict(zip(leaves, tensors, strict=False))
            x, y = tensors[len(leaves) :]
            found = objective.gradients(parameters, {}, {}, (x, y), layouts)
            return [found.losses, *found.gradients]

        given = [*leaves.values(), inputs, targets]
        run = traced(step, given, len(leaves) if shortened else None)

        def action() -> object:
            with torch.inference_mode():
                return run(*given)

        return action

    return {
        "vmap of grad_and_value": of_gradient,
        "forward vmap, one backward": lambda: objective.gradients(leaves, {}, {}, batch),
        "its trace": by_trace(layouts=False, shortened=False),
        "its trace, shortened": by_trace(layouts=False, shortened=True),
        "the trace with feature-major layouts": by_trace(layouts=True, shortened=False),
        "the trace with feature-major layouts, shortened": by_trace(layouts=True, shortened=True),
    }


# --------------------------------------------------------------- ways to make the update


def updates(net: Net, trials: int) -> dict[str, Action]:
    """SGD with a learning rate per trial on ready gradients, in several memory layouts."""
    shapes = [tuple(p.shape) for p in net.model().parameters()]
    parameters = [torch.randn(trials, *shape) for shape in shapes]
    gradients = [torch.randn(trials, *shape) for shape in shapes]
    rates = torch.full((trials,), LR)
    views = [rates.view(-1, *[1] * len(shape)) for shape in shapes]
    rows = torch.cat([p.reshape(trials, -1) for p in parameters], 1)
    row_gradients = torch.empty_like(rows)
    line = torch.cat([p.reshape(-1) for p in parameters])
    line_gradients = torch.empty_like(line)
    line_rates = torch.cat(
        [r.expand_as(p).reshape(-1) for r, p in zip(views, parameters, strict=True)]
    )

    def one_by_one() -> None:
        for parameter, gradient, rate in zip(parameters, gradients, views, strict=True):
            parameter.addcmul_(gradient, rate, value=-1.0)

    def by_rows() -> None:
        torch.cat([g.reshape(trials, -1) for g in gradients], 1, out=row_gradients)
        rows.addcmul_(row_gradients, rates.unsqueeze(1), value=-1.0)

    def in_line() -> None:
        torch.cat([g.reshape(-1) for g in gradients], out=line_gradients)
        line.addcmul_(line_gradients, line_rates, value=-1.0)

    def guarded(action: Callable[[], None]) -> Action:
        def run() -> None:
            with torch.inference_mode():
                action()

        return run

    return {
        "one addcmul per parameter": guarded(one_by_one),
        "_foreach_addcmul over the parameters": guarded(
            lambda: torch._foreach_addcmul_(parameters, gradients, views, value=-1.0)
        ),
        "flat buffer (trials, parameters), gradients gathered": guarded(by_rows),
        "flat buffer in one line, rates spread, gradients gathered": guarded(in_line),
    }


# ------------------------------------------------------------------------ nets for a GPU


class SmallTransformer(nn.Module):
    """Two pre-norm blocks of width 64 over 32 characters."""

    def __init__(self, vocabulary: int = 96, width: int = 64, length: int = 32) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.position = nn.Parameter(0.02 * torch.randn(length, width))
        self.qkv = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.feed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
            for _ in range(2)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, characters: Tensor) -> Tensor:
        x = self.embed(characters) + self.position
        for number, (qkv, feed) in enumerate(zip(self.qkv, self.feed, strict=True)):
            parts = qkv(self.norms[2 * number](x)).unflatten(-1, (3, 4, -1)).movedim(-3, 0)
            q, k, v = (part.transpose(1, 2) for part in parts)
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).flatten(2)
            x = x + feed(self.norms[2 * number + 1](x))
        logits: Tensor = self.head(self.norms[4](x))
        return logits.flatten(0, 1)


def gpu_problems() -> dict[str, tuple[nn.Module, Sequence[tuple[Tensor, Tensor]]]]:
    """A CNN on 16 x 16 images, a small transformer, and an MLP, with batches of 32."""
    torch.manual_seed(0)
    cnn = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(512, 10)),
    )
    images = [(torch.randn(32, 3, 16, 16), torch.randint(10, (32,))) for _ in range(BATCHES)]
    text = [(torch.randint(96, (32, 32)), torch.randint(96, (32 * 32,))) for _ in range(BATCHES)]
    return {
        "CNN": (cnn, images),
        "transformer": (SmallTransformer(), text),
        MLP.name: (MLP.model(), MLP.batches()),
    }
