"""Race several learning rates over ever longer short versions of the planned run.

A scout finds where training diverges. Many lanes run the planned schedule compressed to a few
updates; then few lanes around the best run longer and longer ones. Where the planned run makes
many passes over its data, they are cut down as the updates are, so that a lane sees each example
as often as that run does: it begins to overfit where that would. All that the lanes ended at goes
into one model of the loss over learning rate and length, which says where the next lanes start
and, in the end, at which peak the whole length is expected to lose the least.

Sources: successive refinement after K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm
Identification and Hyperparameter Optimization", arXiv 1502.07943 (successive halving); losses
of short runs read together by a Gaussian process after K. Swersky, J. Snoek, R. Adams,
"Freeze-Thaw Bayesian Optimization", arXiv 1406.3896; the best learning rate falling with the
length of the run, J. Bjorck et al., "Scaling Optimal LR Across Token Horizons", arXiv 2409.19913;
what seeing data again is worth, N. Muennighoff et al., "Scaling Data-Constrained Language Models",
arXiv 2305.16264.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from lrsearch.core import validation
from lrsearch.core.search import Plan, Script
from lrsearch.errors import InvalidArgument
from lrsearch.methods.race_track import Track

__all__ = ["Race"]


@dataclass(frozen=True)
class Race:
    """Find the peak learning rate of the planned run for about ``budget`` planned runs.

    All lanes start from the same state and see the same batches with the same dropout. They
    are ranked by held-out loss when there is one, else by the training loss of their last
    tenth. Needs ``train_steps``. Where the planned run makes more than four passes over the data, a
    short lane reads the first batches of a pass only, again and again; a loader without a length
    has no passes, and is read on and on. A budget too small for a single rung is spent on a range
    test, and the answer says so.

    ``low`` and ``high`` come from draws of the surface, from how far off such answers usually are,
    and from the noise of the losses; on recorded runs they hold the best peak in about four of five
    cases. One lane more, the baseline, runs at a rate that moves no weight: without a fall below it
    that noise cannot explain there is no answer.

    Args:
        budget: optimizer updates to spend, over all lanes, in planned runs; positive.
        min_lr, max_lr: bounds of the answer, when there are any.
        hand_over: keep the states of the longest lanes (a copy each), so that
            ``result.continue_from`` can go on from one. They run in turn then.

    Example:
        >>> Race(budget=0.3).name
        'race'
    """

    budget: float = 1.0
    min_lr: float | None = None
    max_lr: float | None = None
    hand_over: bool = False
    name: str = "race"

    def __post_init__(self) -> None:
        low, high = validation.lr_bounds(self.min_lr, self.max_lr)
        object.__setattr__(self, "min_lr", low)
        object.__setattr__(self, "max_lr", high)
        budget = partial(validation.positive, most=validation.MOST)
        validation.check_fields(self, "Race.", budget=budget)
        validation.check_fields(self, hand_over=validation.flag, name=validation.text)

    def search(self, plan: Plan) -> Script:
        """Scout, run many short lanes, then fewer and longer ones; read all of them together."""
        if plan.train_steps is None:
            raise InvalidArgument.of("train_steps", None, "the length of the planned run")
        bounds = (self.min_lr, self.max_lr)
        return Track(self.budget, bounds, plan, plan.train_steps, self.hand_over).script()
