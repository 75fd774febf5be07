"""Accelerate's own loop: what ``prepare`` returns goes into ``find_lr`` as it is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader
from transformers import set_seed

import lrsearch
from tests.integrations.test_transformers import measured
from tests.integrations.tiny_trainers import bert, texts


def prepared(**settings: Any) -> tuple[Any, ...]:
    """An accelerator, and a model, an optimizer, a loader and a scheduler prepared by it."""
    set_seed(42)
    accelerator = Accelerator(cpu=True, **settings)
    model = bert()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    loader = DataLoader(texts(30), batch_size=4, shuffle=True)  # type: ignore[arg-type]
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, 12)
    return accelerator, *accelerator.prepare(model, optimizer, loader, scheduler)


def trained(parts: tuple[Any, ...], epochs: int = 2) -> list[float]:
    """Train in the way of Accelerate's quick tour; return the losses."""
    accelerator, model, optimizer, loader, scheduler = parts
    found = []
    model.train()
    for _ in range(epochs):
        for batch in loader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            found.append(loss.item())
    return found


def search(parts: tuple[Any, ...], **options: Any) -> lrsearch.Result:
    accelerator, model, optimizer, loader, _ = parts
    settings = {"method": lrsearch.RangeTest(12, 1e-5, 1e-1), "throw": False, "progress": False}
    return lrsearch.find_lr(
        model,
        optimizer,
        None,
        loader,
        accumulate=accelerator.gradient_accumulation_steps,
        clip_grad_norm=1.0,
        **{**settings, **options},
    )


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"gradient_accumulation_steps": 3},
        {"mixed_precision": "bf16"},
        {"dataloader_config": DataLoaderConfiguration(use_seedable_sampler=True)},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_training_after_a_search_is_training_without_one(settings: dict[str, Any]) -> None:
    untouched = trained(prepared(**settings))
    parts = prepared(**settings)
    first, second = search(parts), search(parts)
    assert measured(first) == measured(second)
    assert trained(parts) == untouched


def test_a_search_between_two_epochs_changes_neither() -> None:
    settings = {"dataloader_config": DataLoaderConfiguration(use_seedable_sampler=True)}
    parts = prepared(**settings)
    untouched = trained(parts, 1) + trained(parts, 1)
    parts = prepared(**settings)
    before = trained(parts, 1)
    search(parts)
    assert before + trained(parts, 1) == untouched
    assert not parts[0].gradient_state.in_dataloader


def test_lanes_of_a_seedable_sampler_see_the_same_batches() -> None:
    parts = prepared(dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True))
    twice = search(parts, method=lrsearch.Sweep([1e-30, 2e-30]), train_steps=20)
    first, second, _ = (curve.loss.tolist() for curve in twice.curves)
    assert first == pytest.approx(second, abs=1e-5)
    assert len({round(loss, 6) for loss in first}) == 20  # batches differ, and epochs too
