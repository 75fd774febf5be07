"""For those who write trainables and methods: tests to inherit, and training to replay.

:class:`TrainableSuite` holds the tests that every trainable must pass. A :class:`Recording`
of losses becomes a trainable by :func:`replay`, so that methods can be tried on real
training without training.

Example:
    >>> from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine
    >>> class TestMyNet(TrainableSuite):  # pytest finds it by its name and runs what it inherits
    ...     lr = 0.5
    ...     def make(self):
    ...         return TwoLayerNet(noisy_sine(64), seed=0)
    >>> TestMyNet().test_restoring_again_and_again_gives_the_same_training()
"""

from lrsearch.testing.recording import RecordedRun, Recording
from lrsearch.testing.replay import EvaluatedReplayTrainable, ReplayTrainable, replay
from lrsearch.testing.suite import TrainableSuite

__all__ = [
    "EvaluatedReplayTrainable",
    "RecordedRun",
    "Recording",
    "ReplayTrainable",
    "TrainableSuite",
    "replay",
]
