"""The worked examples run, find a learning rate that trains, and leave their trainable alone."""

from __future__ import annotations

from types import ModuleType

import pytest

import lrsearch
from examples import gan, reinforcement_learning


def test_a_gan_is_searched_by_what_it_generates() -> None:
    subject = gan.GAN()
    start = subject.evaluate()
    before = subject.snapshot()
    first = [subject.step(1e-3) for _ in range(3)]
    subject.restore(before)
    result = lrsearch.search(subject, train_steps=gan.TRAIN_STEPS, progress=False)
    assert any(curve.evaluations for curve in result.curves)
    assert subject.other.param_groups[0]["lr"] == 3e-3  # the other optimizer's own
    assert [subject.step(1e-3) for _ in range(3)] == first
    subject.restore(before)
    for _ in range(gan.TRAIN_STEPS):
        subject.step(result.lr)
    assert subject.evaluate() < 0.5 * start


def test_a_policy_is_searched_by_its_reward() -> None:
    subject = reinforcement_learning.PolicyGradient()
    before = subject.snapshot()
    first = [subject.step(1e-3) for _ in range(3)]
    subject.restore(before)
    steps = reinforcement_learning.TRAIN_STEPS
    result = lrsearch.search(subject, train_steps=steps, progress=False)
    assert [subject.step(1e-3) for _ in range(3)] == first
    subject.restore(before)
    distances = [subject.step(result.lr) for _ in range(steps)]
    assert sum(distances[-20:]) / 20 < 0.2 * first[0]


@pytest.mark.parametrize("example", [gan, reinforcement_learning])
def test_it_says_what_it_found(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(example, "TRAIN_STEPS", 200)
    result = example.main()
    said = capsys.readouterr().out
    assert said.startswith("learning rate of the ")
    assert f"{result.lr:.2g}" in said
