"""What every trainable must do, as tests to inherit: steps, snapshots and whole searches."""

from __future__ import annotations

import math
import threading
from functools import partial
from unittest import SkipTest

from lrsearch.core.search import Update
from lrsearch.core.trainable import Evaluable, HeldOut, ManyLanes, ShortensEpochs
from lrsearch.testing.failing import FailsAt, OnPurpose, ctrl_c, interrupted
from lrsearch.testing.machinery import Machinery

__all__ = ["TrainableSuite"]


class TrainableSuite(Machinery):
    """Tests that any :class:`lrsearch.core.trainable.Trainable` must pass.

    Subclass under a name that your test runner collects, define :meth:`make`, and inherit the
    tests; they need no package beyond NumPy, and run under pytest as they are. A test about
    something that the trainable does not have (a held-out loss, lanes) is skipped.

    Attributes:
        lr: a learning rate at which the loss falls.
        steps: updates in most of the tests, at least 2. With more than an epoch has, the order
            of the next epoch is tested too.
        train_steps: length of the planned run in the tests that search, at least 16.
        tolerance: largest relative difference between losses that ought to be equal; 0 asks
            for equality to the last bit, more is for devices that cannot add twice alike.

    Example:
        >>> from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine
        >>> class TestNet(TrainableSuite):
        ...     lr = 0.5
        ...     def make(self):
        ...         return TwoLayerNet(noisy_sine(64), seed=0)
        ...     def fingerprint(self, trainable):
        ...         return trainable.weights.tobytes()
        >>> TestNet().test_a_search_leaves_everything_as_it_was()

    Source: conformance suites shipped as code, as in Optuna's ``optuna.testing``.
    """

    # ----------------------------------------------------------------------------- tests of steps

    def test_a_step_returns_the_finite_loss_as_a_float(self) -> None:
        """NumPy's float64 is a float too; a tensor or an integer is not."""
        loss = self.make().step(self.lr)
        assert isinstance(loss, float), f"step must return a float, got {type(loss).__name__}"
        assert math.isfinite(loss), f"step({self.lr}) returned {loss}; set a stable lr"

    def test_the_loss_of_a_step_is_that_before_its_update(self) -> None:
        """So the first loss cannot depend on the learning rate."""
        trainable = self.make()
        start = trainable.snapshot()
        first = [trainable.step(self.lr)]
        trainable.restore(start)
        second = [trainable.step(2.0 * self.lr)]
        self._equal(first, second, "the first loss changed with the learning rate")

    def test_the_learning_rate_matters(self) -> None:
        """Later losses must differ between learning rates."""
        trainable = self.make()
        start = trainable.snapshot()
        slow = self._train(trainable, 0.1 * self.lr)
        trainable.restore(start)
        fast = self._train(trainable, self.lr)
        assert slow != fast, f"the losses at lr {0.1 * self.lr} and {self.lr} are the same"

    def test_the_learning_rate_recorded_is_the_one_used(self) -> None:
        """Every point of a curve carries the learning rate that its update was made with."""
        trainable = self.make()
        used: list[float | None] = []

        def seen(update: Update) -> None:
            used.append(self.used_lr(trainable))

        outcome = self._search(trainable, self._range_test(), seen)
        if None in used:
            raise SkipTest("define used_lr to run this test")
        recorded = [lr for curve in outcome.curves for lr in curve.lr.tolist()]
        assert used == recorded, "the learning rates used are not those recorded"

    # ------------------------------------------------------------------------- tests of snapshots

    def test_restoring_again_and_again_gives_the_same_training(self) -> None:
        """A snapshot that shares memory with the training passes once, and not twice."""
        trainable = self.make()
        start, mark = trainable.snapshot(), self.fingerprint(trainable)
        losses = self._train(trainable)
        for time in ("first", "second", "third"):
            trainable.restore(start)
            self._same(mark, trainable, f"after the {time} restore")
            self._equal(losses, self._train(trainable), f"training after the {time} restore")

    def test_a_snapshot_taken_during_training_leads_back_there(self) -> None:
        """Optimizer state, random state and the place in the data are part of it."""
        trainable = self.make()
        self._train(trainable)
        middle, mark = trainable.snapshot(), self.fingerprint(trainable)
        losses = self._train(trainable)
        self._train(trainable, 2.0 * self.lr)
        trainable.restore(middle)
        self._same(mark, trainable, "after the restore")
        self._equal(losses, self._train(trainable), "training after the restore")

    def test_snapshots_can_be_restored_in_any_order(self) -> None:
        """Each is a state of its own, whatever was taken or restored in between."""
        trainable = self.make()
        snapshots, futures = [], []
        for _ in range(3):
            snapshots.append(trainable.snapshot())
            futures.append(self._train(trainable))
        for place in (1, 0, 2, 0):
            trainable.restore(snapshots[place])
            self._equal(futures[place], self._train(trainable), f"training from snapshot {place}")

    def test_taking_a_snapshot_changes_nothing(self) -> None:
        """Neither the state nor what comes after."""
        trainable = self.make()
        start = trainable.snapshot()
        plain = self._train(trainable)
        trainable.restore(start)
        losses = []
        for _ in range(self.steps):
            mark = self.fingerprint(trainable)
            trainable.snapshot()
            self._same(mark, trainable, "after taking a snapshot")
            losses.append(trainable.step(self.lr))
        self._equal(plain, losses, "training with snapshots in between")

    def test_divergence_is_undone(self) -> None:
        """Weights, moments and statistics full of NaN must not survive a restore."""
        trainable = self.make()
        self._train(trainable)
        start, mark = trainable.snapshot(), self.fingerprint(trainable)
        losses = self._train(trainable)
        self._train(trainable, 1e30 * self.lr)
        trainable.restore(start)
        self._same(mark, trainable, "after a divergence was undone")
        self._equal(losses, self._train(trainable), "training after a divergence was undone")

    def test_training_on_a_part_of_the_data_begins_alike_and_is_undone(self) -> None:
        """It is the first part, and after the restore all of the data is back in its order."""
        trainable = self.make()
        if not isinstance(trainable, ShortensEpochs):
            raise SkipTest("this trainable has no shorten_epochs")
        start, mark = trainable.snapshot(), self.fingerprint(trainable)
        losses = self._train(trainable)
        trainable.restore(start)
        trainable.shorten_epochs(2)
        first = [trainable.step(self.lr) for _ in range(2)]
        self._equal(losses[:2], first, "the first updates on a part of the data")
        self._train(trainable)
        trainable.restore(start)
        self._same(mark, trainable, "after training on a part of the data")
        self._equal(losses, self._train(trainable), "training after that on a part of the data")

    # ------------------------------------------------------------------- tests of held-out losses

    def test_evaluating_changes_nothing(self) -> None:
        """Modes, random states and the place in the data are as if nothing was evaluated."""
        trainable = self.make()
        if not isinstance(trainable, Evaluable):
            raise SkipTest("this trainable has no evaluate")
        start = trainable.snapshot()
        plain = self._train(trainable)
        trainable.restore(start)
        losses = []
        for _ in range(self.steps):
            losses.append(trainable.step(self.lr))
            mark = self.fingerprint(trainable)
            first = trainable.evaluate()
            self._same(mark, trainable, "after evaluating")
            kinds = (float, HeldOut)
            assert isinstance(first, kinds), f"evaluate must return a float, got {type(first)}"
            again = trainable.evaluate()
            self._equal([_loss(first)], [_loss(again)], "evaluating twice")
        self._equal(plain, losses, "training with evaluations in between")

    # -------------------------------------------------------------------- tests of whole searches

    def test_a_search_leaves_everything_as_it_was(self) -> None:
        """Range test, race and sweep: state, further training and threads."""
        trainable = self.make()
        self._train(trainable)
        for method in self._methods():
            threads = set(threading.enumerate())
            self._untouched(trainable, partial(self._search, trainable, method))
            # A library may keep one for the life of the process, as tqdm does for torch.
            left = {thread for thread in threading.enumerate() if not thread.daemon} - threads
            assert not left, f"threads left by {method.name}: {sorted(t.name for t in left)}"

    def test_the_same_search_again_measures_the_same(self) -> None:
        """Nothing of the first search reaches the second."""
        trainable = self.make()
        for method in self._methods():
            first, second = (self._search(trainable, method).curves for _ in range(2))
            assert len(first) == len(second), f"{method.name}: another number of lanes"
            for one, other in zip(first, second, strict=True):
                self._equal(one.loss.tolist(), other.loss.tolist(), f"{method.name} again")

    def test_an_error_in_a_step_leaves_everything_as_it_was(self) -> None:
        """Before the update and after it, in the first one and in a later one."""
        trainable = self.make()
        self._train(trainable)
        for at in (0, 1, 7):
            for after in (False, True):
                self._fails(trainable, FailsAt(trainable, at, OnPurpose, after), OnPurpose)

    def test_an_error_in_a_progress_display_leaves_everything_as_it_was(self) -> None:
        """What only watches must not do harm either."""

        def seen(update: Update) -> None:
            if update.done == 5:
                raise OnPurpose("on purpose")

        trainable = self.make()
        self._train(trainable)
        self._fails(trainable, trainable, OnPurpose, seen)

    def test_ctrl_c_leaves_everything_as_it_was(self) -> None:
        """A real interrupt, in the middle of a step and right after one."""
        trainable = self.make()
        self._train(trainable)
        with ctrl_c():
            for after in (False, True):
                failing = FailsAt(trainable, 3, interrupted, after)
                self._fails(trainable, failing, KeyboardInterrupt)

    # ---------------------------------------------------------------------------- tests of lanes

    def test_lanes_measure_what_separate_runs_do(self) -> None:
        """Up to rounding; and the trainable is afterwards where it was."""
        trainable = self.make()
        if not isinstance(trainable, ManyLanes):
            raise SkipTest("this trainable has no lanes")
        lrs = [0.1 * self.lr, 0.5 * self.lr, self.lr]
        start, mark = trainable.snapshot(), self.fingerprint(trainable)
        alone = []
        for lr in lrs:
            alone.append(self._train(trainable, lr))
            trainable.restore(start)
        group = trainable.lanes(len(lrs), self.steps)
        if group is None:
            raise SkipTest(f"no lanes: {trainable.why_not}")
        try:
            together = [group.step(lrs) for _ in range(self.steps)]
        finally:
            group.close()
        for lane, losses in enumerate(zip(*together, strict=True)):
            for one, other in zip(alone[lane], losses, strict=True):
                assert math.isclose(one, other, rel_tol=1e-3), f"lane {lane}: {other}, not {one}"
        self._same(mark, trainable, "after lanes")
        self._equal(alone[-1], self._train(trainable), "training after lanes")


def _loss(held_out: float | HeldOut) -> float:
    return held_out.loss if isinstance(held_out, HeldOut) else held_out
