"""A PyTorch model, its optimizer and its data as something a search can train."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.interrupt import uninterrupted
from lrsearch.core.trainable import HeldOut
from lrsearch.core.validation import whole
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch import snapshot as state
from lrsearch.pytorch.batches import NOTHING, BatchStream, Position
from lrsearch.pytorch.blame import all_finite, attempt, may_be_divergence, trained_into
from lrsearch.pytorch.checks import (
    check_loader,
    check_loss,
    check_model_and_optimizer,
    check_scaler,
    check_stateful,
    inner_optimizers,
    multipliers_of,
)
from lrsearch.pytorch.distributed import ALONE, Ranks, name_of, settings_of
from lrsearch.pytorch.held_out import Evaluate, GradMode, Portion, Work, gradients_apart
from lrsearch.pytorch.loss import (
    ComputeLoss,
    PairLoss,
    batch_size,
    default_loss,
    number_of,
    to_device,
)
from lrsearch.pytorch.modes import evaluating, start_training
from lrsearch.pytorch.object_state import ObjectState
from lrsearch.pytorch.prepared import backward_allowed, optimizers_of, same_objects, scaler_of
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything
from lrsearch.pytorch.store import Place, check_place
from lrsearch.pytorch.update import Clipping, OwnUpdate, TrainStep, Updater
from lrsearch.pytorch.vectorized import BatchedTrials, Choice, Recipe
from lrsearch.pytorch.wrappers import WrapperState

__all__ = ["EvaluatedTorchTrainable", "TorchSnapshot", "TorchTrainable", "torch_trainable"]

_AUTOCAST = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
_FEW_BATCHES = 4  # held-out batches: of fewer each is judged in parts
_PASSES = 1_000_000  # more passes over the data than a search makes in one order


@dataclass(frozen=True)
class TorchSnapshot:
    """The training state, the updates made so far and the place in the data."""

    state: state.Snapshot
    wrappers: WrapperState | None
    updates: int
    position: Position


class TorchTrainable:
    """Train ``model`` one update at a time at any learning rate, and take it all back.

    Building one changes nothing. Arguments are those of :func:`lrsearch.find_lr`, and
    ``vectorise``: whether lanes are trained together (``None``: when measured to be faster);
    ``ranks``: the processes that train together, from
    :func:`lrsearch.pytorch.distributed.ranks_of`.

    Attributes:
        leads: whether this process is the one of them that shows progress.
        multipliers: learning rate of each parameter group over that of the first.
        updates_per_epoch: updates in one pass over the data, or ``None`` if it has no length.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        train_loader: Iterable[Any] | Callable[[], Any],
        *,
        compute_loss: ComputeLoss | None = None,
        train_step: TrainStep | None = None,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None = None,
        grad_scaler: torch.amp.GradScaler | None = None,
        stateful: Sequence[state.Stateful] = (),
        snapshot_to: Place = "device",
        seed: int = 0,
        vectorise: bool | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        check_model_and_optimizer(model, optimizer)
        check_loss(loss_fn, compute_loss, train_loader)
        _check_beside(train_loader, grad_scaler, stateful, snapshot_to)
        self._model = model
        self._given = optimizer
        self._optimizers = optimizers_of(optimizer)
        self._optimizer = self._optimizers[0]
        self._compute_loss = compute_loss or default_loss(loss_fn)
        self._clipping = Clipping(value=clip_grad_value, norm=clip_grad_norm)
        self._train_step = train_step
        if train_step is not None:
            ours = (accumulate, clip_grad_norm, clip_grad_value, autocast, grad_scaler)
            _check_train_step(train_step, *ours)
        if train_step is None and grad_scaler is None:
            grad_scaler = scaler_of(optimizer)
        self._scaler = grad_scaler
        self._beside: tuple[Any, ...] = (loss_fn, compute_loss, train_step, *stateful)
        self._apart: Sequence[object] = ()  # what is not to be looked at
        # One that only train_step steps, as that of a discriminator, keeps its learning rate.
        self._other_optimizers = [o for o in stateful if isinstance(o, torch.optim.Optimizer)]
        self._snapshot_to = snapshot_to
        self._ranks = ranks
        self.leads = ranks.leads
        self._seed, self._updates = ranks.seed(seed), 0
        self._start: weakref.ref[TorchSnapshot] | None = None
        self._batches = BatchStream(train_loader, ranks.seed(seed, generators_of(train_loader)))
        self._held_out: BatchStream | None = None
        self._unseen: BatchStream | None = None  # held-out batches, until one was looked at
        self._val_loss: ComputeLoss | None = None
        off = "batching is switched off" if vectorise is False else ""
        self._no_lanes = ranks.why_no_lanes or off
        self._choice = Choice(self._recipe, self._trial, self._watch, vectorise is True)
        self._device = next(p for group in self._groups for p in group["params"]).device
        self._autocast = _autocast(autocast, self._device)
        self.multipliers = multipliers_of(self._groups)
        self._updater = Updater(
            self._optimizers,
            self._loss_of,
            beside=model.parameters(),
            accumulate=accumulate,
            clipping=self._clipping,
            scaler=grad_scaler,
            ranks=ranks,
        )
        self._update: Callable[[BatchStream], float] = self._updater
        if train_step is not None:
            self._update = self._own_update(train_step)
        self._accumulate = whole("accumulate", accumulate, 1)
        self._check_same(loss_fn, compute_loss, autocast, grad_scaler)
        self.updates_per_epoch = self._count_updates()

    def _check_same(self, *given: object) -> None:
        """Raise unless all processes were given the same."""
        named = dict(
            zip(("loss_fn", "compute_loss", "autocast", "grad_scaler"), given, strict=True)
        )
        self._ranks.check_same(
            **settings_of(*self._optimizers),
            accumulate=self._accumulate,
            clipping=self._clipping,
            **{name: Words(name_of(value)) for name, value in named.items()},
        )

    def _count_updates(self) -> int | None:
        """Return the updates of one pass over the data, ``None`` if it has no length."""
        lengths = (n for n in self._ranks.gather(self._batches.length) if n is not None)
        length = min(lengths, default=None)
        # Batches left over at the end of a pass make an update too.
        return None if length is None else -(-length // self._accumulate)

    def owns(self, model: object, optimizer: object) -> bool:
        """Whether these are the model and the optimizer that are trained here."""
        return model is self._model and same_objects(optimizer, self._given)

    def step(self, lr: float) -> float:
        """Make one update on the next batches at ``lr``; return their mean loss before it.

        It is NaN where the update raised because training had diverged.
        """
        if self._updates == 0:
            self._begin()
        position = self._batches.position
        loss = self._try(lambda: self._update_at(lr), position)
        self._updates += 1
        return loss

    def check_rate_reaches(self) -> None:
        """Raise if an optimizer steps others whose learning rates are not its own.

        Nothing is done unless it keeps optimizers with parameter groups of their own. Then one
        update is made at a learning rate of 0, one at that of its groups, and both are taken back.

        Raises:
            InvalidArgument: at 0 the weights move as far.
        """
        inner = [(one, inside) for one in self._optimizers for inside in inner_optimizers(one)]
        if not inner or self._ranks.many:
            return
        kept = state.take(nn.Module(), [inside for _, inside in inner])
        rates = [float(group["lr"]) for group in self._groups]
        first = next(rate for rate, ratio in zip(rates, self.multipliers, strict=True) if ratio)
        moved = []
        for lr in (0.0, first):
            before = [p.detach().clone() for p in self._graded()]
            with self._trial() as step:
                step(lr)
                pairs = zip(self._graded(), before, strict=True)
                moved.append(sum(float((p.detach() - old).abs().sum()) for p, old in pairs))
            state.restore(kept)
        if moved[0] > 0.5 * moved[1]:
            outer, inside = inner[0]
            raise InvalidArgument.of(
                "optimizer",
                Words(
                    f"{type(outer).__name__}, whose learning rates are not those of the "
                    f"{type(inside).__name__} inside that makes the steps"
                ),
                "optimizers whose param_groups are what they step",
                "Pass those inside, as in optimizer=[muon, adamw]; one multiplier is searched "
                "over all their groups.",
            )

    def snapshot(self) -> TorchSnapshot:
        """Copy everything that ``restore`` brings back."""
        held_out = () if self._held_out is None else self._held_out.generators
        with uninterrupted():
            wrappers = self._ranks.save()
            taken = state.take(
                self._model,
                [*self._optimizers, *self._other_optimizers],
                self._scaler,
                (*self._batches.generators, *held_out),
                others=self._beside,
                apart=self._apart,
                place=self._snapshot_to,
            )
        return self._begins_at(
            TorchSnapshot(taken, wrappers, self._updates, self._batches.position)
        )

    def restore(self, snapshot: TorchSnapshot) -> None:
        """Return to ``snapshot``, bit for bit; it can be restored again."""
        with uninterrupted(), ExitStack() as last_first:
            # Each by itself: the rest is put back even if one of them cannot be.
            last_first.callback(state.restore, snapshot.state)
            last_first.callback(self._batches.seek, snapshot.position)
            if self._held_out is not None:
                last_first.callback(self._held_out.close)
            last_first.callback(self._ranks.restore, snapshot.wrappers)
            self._updates = snapshot.updates
        self._begins_at(snapshot)

    def reshuffle(self, number: int) -> None:
        """Go on with passes over the data that no order with a lower number has come to."""
        self._batches.seek(Position(number * _PASSES, 0))

    def shorten_epochs(self, updates: int) -> None:
        """Go on with the first updates' batches of this pass, again and again."""
        most = whole("updates", updates, 1) * self._accumulate
        self._batches.seek(replace(self._batches.position, most=most))

    @property
    def why_not(self) -> str:
        """Why the last call of :meth:`lanes` returned ``None``."""
        return self._why_no_lanes() or self._choice.why_not

    def lanes(self, count: int, steps: int) -> BatchedTrials | None:
        """Return lanes from the present state if they train faster together than in turn."""
        return None if self._why_no_lanes() else self._choice.trials(count, steps)

    def _why_no_lanes(self) -> str:
        if self._train_step is not None:
            return "train_step makes one update at a time"
        if len(self._optimizers) > 1:
            return f"{len(self._optimizers)} optimizers step one after the other"
        if self._updater.passes_over:
            return "compute_loss passes over batches"
        return self._no_lanes

    def _watch(self) -> ObjectState:
        """Remember what a step may change beside weights, buffers and the optimizer."""
        return state.attributes(self._model, self._beside, (*self._apart, self._optimizer))

    def _recipe(self) -> Recipe:
        return Recipe(
            model=self._model,
            optimizer=self._optimizer,
            compute_loss=self._loss,
            ratios=self.multipliers,
            batches=self._batches,
            held_out=self._held_out,
            accumulate=self._accumulate,
            clip_grad_norm=self._clipping.norm,
            clip_grad_value=self._clipping.value,
            seed=self._seed,
            steps=self._updates,
            remember=lambda: partial(self.restore, self.snapshot()),
            autocast=self._autocast is not nullcontext,
            grad_scaler=self._scaler,
            beside=(self._compute_loss, *self._beside),
        )

    @contextmanager
    def _trial(self) -> Iterator[Callable[[float], float]]:
        before = self.snapshot()
        try:
            yield self.step
        finally:
            self.restore(before)
            del before  # even where a traceback is kept

    def _evaluating(self) -> AbstractContextManager[None]:
        return evaluating(self._model, *self._optimizers, others=self._beside, apart=self._apart)

    def _own_update(self, train_step: TrainStep) -> OwnUpdate:
        return OwnUpdate(
            train_step,
            self._model,
            self._given,
            prepared=lambda batch: to_device(batch, self._device),
            graded=self._graded(),
            rates=lambda: [float(group["lr"]) for group in self._groups],
            ranks=self._ranks,
        )

    def _begin(self) -> None:
        """Start from known random states, and in training mode as any training loop would."""
        self._check_held_out()
        seed_everything(self._seed, self._batches.generators)
        start_training(self._model, *self._optimizers)
        for parameter in self._graded():
            parameter.grad = None  # dropped, not zeroed: the user may hold it

    @property
    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self._optimizers for group in optimizer.param_groups]

    def _graded(self) -> list[nn.Parameter]:
        """Every parameter that may have a gradient."""
        held = [p for group in self._groups for p in group["params"]]
        return list({id(p): p for p in (*held, *self._model.parameters())}.values())

    def _check_held_out(self) -> None:
        """Look at the first held-out batch: an hour of training later is too late to refuse it."""
        held_out, self._unseen = self._unseen, None
        if held_out is None:
            return
        first = held_out.first()
        if not any(self._ranks.gather(first is not NOTHING)):
            raise held_out.empty()
        pairs = isinstance(self._compute_loss, PairLoss) and self._val_loss is None
        if first is not NOTHING and first is not None and pairs:
            PairLoss.check(first, held_out.name)

    def _set_lr(self, lr: float) -> None:
        for group, multiplier in zip(self._groups, self.multipliers, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * multiplier)
            else:
                group["lr"] = lr * multiplier

    def _update_at(self, lr: float) -> float:
        self._set_lr(lr)
        with backward_allowed(self._model):
            return self._update(self._batches)

    def _loss_of(self, batch: Any) -> Tensor | None:
        return self._loss(self._model, to_device(batch, self._device))

    def _loss(self, model: nn.Module, batch: Any) -> Tensor | None:
        with self._autocast():
            return self._compute_loss(model, batch)

    # ------------------------------------------------------------------- updates that raise

    def _begins_at(self, snapshot: TorchSnapshot) -> TorchSnapshot:
        """Remember where the present training began, for as long as the search keeps it."""
        self._start = weakref.ref(snapshot)
        return snapshot

    def _try(self, update: Callable[[], float], position: Position) -> float:
        """Make an update as the optimizer wants it; NaN where training is to blame for an error.

        Args:
            update: makes it; it can be made again.
            position: of its batches.
        """
        try:
            return update()
        except Exception as error:
            if not (self._updater.another_way(error) and self._back(position)):
                if self._is_divergence(error, update, position):
                    return math.nan
                first = self._updater.first_refusal(error)
                if first is not error:
                    raise first from None
                raise
        return self._try(update, position)

    def _try_to_evaluate(self, measure: Callable[[], HeldOut]) -> HeldOut:
        """Measure something held out; NaN where training is to blame for an error."""
        try:
            return measure()
        except Exception as error:
            if self._is_divergence(error, measure):
                return HeldOut(math.nan)
            raise

    def _back(self, position: Position) -> bool:
        """Return to the start of the present training, if it has made no update yet."""
        start = None if self._start is None else self._start()
        if start is None or self._updates != start.updates:
            return False
        self._return_to(start, position)
        return True

    def _return_to(self, start: TorchSnapshot, position: Position) -> None:
        """Go to where a trial began, as its first update would find it, with other batches."""
        self.restore(start)
        self._batches.seek(position)
        if start.updates == 0:
            self._begin()

    def _is_divergence(
        self, error: Exception, action: Callable[[], object], position: Position | None = None
    ) -> bool:
        """Whether what training has done to the weights is to blame for ``error``.

        So it is where a weight is not finite; or else where the same fails again, does not fail
        with the weights that training began with, and outputs have grown out of proportion.

        Args:
            error: what was raised.
            action: raised it, and can be done again.
            position: of the batches of an update. It has failed, so its state is left where the
                trials lead. Without, the state is as before.
        """
        start = None if self._start is None else self._start()
        if start is None or self._ranks.many or not may_be_divergence(error):
            return False
        if self._updates == start.updates:
            return False  # nothing was trained
        if not all_finite(self._model):
            return True
        if position is not None:
            self._batches.seek(position)
        now = attempt(self._model, action)
        if type(now.error) is not type(error):
            return False
        here = self.snapshot() if position is None else None
        try:
            self._return_to(start, start.position if position is None else position)
            return trained_into(now, attempt(self._model, action))
        finally:
            if here is not None:
                self.restore(here)
                self._begins_at(start)


class EvaluatedTorchTrainable(TorchTrainable):
    """A :class:`TorchTrainable` with a held-out measure.

    Arguments beside those of :class:`TorchTrainable`: ``val_loader``, ``val_loss``, ``evaluate``
    and ``val_batches`` of :func:`lrsearch.find_lr`; ``expected``: the steps and the evaluations
    that the search is expected to make, which bounds the batches of an evaluation; all are read
    when it is not known.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        train_loader: Iterable[Any] | Callable[[], Any],
        *,
        val_loader: Iterable[Any] | Callable[[], Any] | None = None,
        val_loss: ComputeLoss | None = None,
        evaluate: Evaluate | None = None,
        val_batches: int | None = None,
        expected: tuple[float, int] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, optimizer, loss_fn, train_loader, seed=seed, **options)
        ranks: Ranks = options.get("ranks", ALONE)
        self._evaluate = evaluate
        self._val_loss = val_loss
        self._grad_mode = GradMode("val_loss" if val_loss else "the loss", val_loss is None)
        self._beside = (*self._beside, val_loss, evaluate)
        if val_loss is not None or evaluate is not None:
            name = "evaluate" if val_loss is None else "val_loss"
            self._no_lanes = self._no_lanes or f"{name} measures one model at a time"
        if val_loader is not None:
            check_loader("val_loader", val_loader)
            self._work = None if expected is None else Work(*expected)
            self._train_loader = train_loader
            self._most_examples: int | None = None
            portion = Portion(val_batches, self._examples)
            self._held_out = portion.stream = BatchStream(
                val_loader,
                ranks.seed(seed, generators_of(val_loader)),
                "val_loader",
                ranks.many,
                portion,
            )
            self._unseen = self._held_out

    def evaluate(self) -> HeldOut:
        """Return the held-out measure in eval mode; of a loss, every example weighing the same.

        It is NaN where it raises because training has diverged.
        """
        self._check_held_out()
        return self._try_to_evaluate(self._measured)

    def _measured(self) -> HeldOut:
        held_out = self._held_out
        random = read_random_state(() if held_out is None else held_out.generators)
        try:
            with self._evaluating(), gradients_apart(lambda: iter(self._graded())):
                return self._mean_loss(held_out) if self._evaluate is None else self._own_measure()
        finally:
            random.restore()

    def _own_measure(self) -> HeldOut:
        assert self._evaluate is not None
        with torch.enable_grad():
            total = 0.0
            for _ in self._ranks.rounds([None], lambda: None):
                total = number_of("evaluate", self._evaluate(self._model))
        return HeldOut(self._ranks.weighted_mean(total, 1.0))

    def _mean_loss(self, held_out: BatchStream | None) -> HeldOut:
        assert held_out is not None
        pieces: list[tuple[float, float]] = []
        first: list[Any] = []
        passed = 0
        for batch, counts in self._ranks.rounds(held_out.one_pass(), self._batches.sample):
            found = self._grad_mode(lambda: self._held_out_loss(batch), self._model)  # noqa: B023
            if found is None:
                passed += 1
            elif counts:
                pieces.append((found, batch_size(batch)))
                first += [batch] * (len(pieces) < _FEW_BATCHES)
        if passed and not pieces and not self._ranks.many:
            raise InvalidArgument.of(
                "val_loader",
                Words(f"{passed} batches whose loss is None"),
                "a loss for at least one of them",
                "None passes over a batch. Does the function return its loss?",
            )
        total, weight = sum(loss * size for loss, size in pieces), sum(size for _, size in pieces)
        mean = self._ranks.weighted_mean(total, weight)
        if self._ranks.many:  # the processes see different batches, and must all decide alike
            return HeldOut(mean)
        few = first if len(pieces) < _FEW_BATCHES else []
        # Afterwards: a forward pass may change what the next one sees.
        parts = [(loss, 1.0) for batch in few for loss in self._in_parts(batch)]
        return HeldOut.of(parts or pieces, mean)

    def _in_parts(self, batch: Any) -> list[float]:
        """The losses of parts of a batch: of one batch alone nobody knows how sure its loss is."""
        if self._val_loss is not None or not isinstance(self._compute_loss, PairLoss):
            return []
        with torch.no_grad(), self._autocast():
            return self._compute_loss.in_parts(self._model, to_device(batch, self._device))

    def _held_out_loss(self, batch: Any) -> Tensor | None:
        if self._val_loss is None:
            return self._loss_of(batch)
        with self._autocast():
            return self._val_loss(self._model, to_device(batch, self._device))

    def _why_no_lanes(self) -> str:
        if self._grad_mode.needs_gradients:
            return "the held-out loss needs gradients"
        return super()._why_no_lanes()

    def _examples(self) -> int | None:
        """How many examples an evaluation reads when nothing was said."""
        if self._work is not None and self._most_examples is None:
            size = getattr(self._train_loader, "batch_size", None)
            if not isinstance(size, int):
                size = batch_size(self._batches.sample())
            self._most_examples = self._work.examples(self._accumulate * size)
        return self._most_examples


def torch_trainable(
    model: nn.Module,
    optimizer: Any,
    loss_fn: Callable[[Any, Any], Tensor] | None,
    train_loader: Any,
    *,
    val_loader: Any = None,
    val_loss: ComputeLoss | None = None,
    evaluate: Evaluate | None = None,
    val_batches: int | None = None,
    expected: tuple[float, int] | None = None,
    **options: Any,
) -> TorchTrainable:
    """Return a trainable that can evaluate when there is something to evaluate by, or one without.

    Raises:
        InvalidArgument: the arguments do not go together.
    """
    _check_held_out(val_loader, val_loss, evaluate, val_batches)
    given = {
        "val_loader": Words("None" if val_loader is None else "held-out batches"),
        "val_loss": Words("None" if val_loss is None else "a function"),
        "evaluate": Words("None" if evaluate is None else "a function"),
        "train_step": Words("None" if options.get("train_step") is None else "a function"),
        "val_batches": val_batches,
    }
    options.get("ranks", ALONE).check_same(**given)
    if val_loader is None and evaluate is None:
        trainable = TorchTrainable(model, optimizer, loss_fn, train_loader, **options)
    else:
        trainable = EvaluatedTorchTrainable(
            model,
            optimizer,
            loss_fn,
            train_loader,
            val_loader=val_loader,
            val_loss=val_loss,
            evaluate=evaluate,
            val_batches=val_batches,
            expected=expected,
            **options,
        )
    trainable.check_rate_reaches()
    return trainable


def _check_held_out(val_loader: Any, val_loss: Any, evaluate: Any, val_batches: Any) -> None:
    for name, function in (("val_loss", val_loss), ("evaluate", evaluate)):
        if function is not None and (not callable(function) or isinstance(function, type)):
            raise InvalidArgument.of(name, function, "a function")
    if evaluate is not None and (val_loader is not None or val_loss is not None):
        name = "val_loader" if val_loss is None else "val_loss"
        raise InvalidArgument(
            f"evaluate measures the whole by itself: give evaluate or {name}, not both."
        )
    if val_loader is None:
        for name, value in (("val_loss", val_loss), ("val_batches", val_batches)):
            if value is not None:
                raise InvalidArgument(f"{name}: give it with val_loader, the held-out batches.")
    if val_batches is not None:
        whole("val_batches", val_batches, 1)


def _check_beside(loader: object, scaler: object, stateful: object, place: Place) -> None:
    check_loader("train_loader", loader)
    check_scaler(scaler)
    check_stateful(stateful)
    check_place(place)


def _check_train_step(train_step: Any, *given: Any) -> None:
    names = ("accumulate", "clip_grad_norm", "clip_grad_value", "autocast", "grad_scaler")
    if not callable(train_step) or isinstance(train_step, type):
        raise InvalidArgument.of("train_step", train_step, "a function")
    for name, value in zip(names, given, strict=True):
        usual = 1 if name == "accumulate" else None
        if value is not None and value != usual:
            raise InvalidArgument.of(
                name,
                value,
                f"{usual} with train_step",
                "train_step makes the whole update: do it there.",
            )


def _autocast(
    autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None, device: torch.device
) -> Callable[[], AbstractContextManager[Any]]:
    if autocast is None:
        return nullcontext
    if isinstance(autocast, torch.dtype) and autocast in _AUTOCAST:
        return lambda: torch.autocast(device.type, dtype=autocast)
    try:
        if hasattr(autocast(), "__enter__"):  # type: ignore[operator]
            return autocast  # type: ignore[return-value]
    except TypeError:  # not to be called like this
        pass
    raise InvalidArgument.of(
        "autocast",
        autocast,
        "a dtype such as torch.bfloat16, or a function making a context",
        "For example: lambda: torch.autocast('cuda', torch.bfloat16).",
    )
