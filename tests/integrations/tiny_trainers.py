"""Trainers of tiny models with random weights, on tiny data: seeded, so that two are alike."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedModel,
    Trainer,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

WORDS, LENGTH = 32, 8


class Rows(Dataset[dict[str, Tensor]]):
    """Columns of equal length, row by row."""

    def __init__(self, **columns: Tensor) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: column[index] for name, column in self.columns.items()}


def texts(rows: int, seed: int = 0, *, next_word: bool = False) -> Rows:
    """Rows of words; their labels are whether the first is in the upper half, or the words."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(WORDS, (rows, LENGTH), generator=generator)
    if not next_word:
        return Rows(input_ids=words, labels=(words[:, 0] >= WORDS // 2).long())
    labels = words.clone()
    for row in labels[: rows // 2]:
        row[LENGTH // 2 :] = -100  # so that batches differ in how many labels count
    return Rows(input_ids=words, labels=labels)


def images(rows: int, seed: int = 0) -> Rows:
    """Pictures of noise, labelled by which half is brighter."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randn(rows, 1, 8, 8, generator=generator)
    half = pixels.mean((1, 3))
    return Rows(pixel_values=pixels, labels=(half[:, :4].sum(1) > half[:, 4:].sum(1)).long())


def bert(dropout: float = 0.1) -> PreTrainedModel:
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=WORDS,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=LENGTH,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def gpt2(dropout: float = 0.1) -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=WORDS,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=LENGTH,
            bos_token_id=0,
            eos_token_id=0,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            resid_pdrop=dropout,
        )
    )


def vit(dropout: float = 0.1) -> PreTrainedModel:
    return ViTForImageClassification(
        ViTConfig(
            image_size=8,
            patch_size=4,
            num_channels=1,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def lora(model: PreTrainedModel) -> Any:
    """The model frozen, with adapters of rank 2 on its attention."""
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        # peft 0.21 asks transformers 5.23 by a name that is being retired.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        return get_peft_model(model, LoraConfig(r=2, target_modules=["query", "value"]))


MODELS = {
    "bert": (bert, lambda rows, seed=0: texts(rows, seed)),
    "gpt2": (gpt2, lambda rows, seed=0: texts(rows, seed, next_word=True)),
    "vit": (vit, images),
}


def arguments(folder: Path, **options: Any) -> TrainingArguments:
    """Quiet arguments: no reports, no files, the loss of every step."""
    settings = {
        "per_device_train_batch_size": 4,
        "max_steps": 20,
        "logging_steps": 1,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "dataloader_pin_memory": False,
    }
    return TrainingArguments(str(folder), **{**settings, **options})


def make_trainer(
    folder: Path,
    kind: str = "bert",
    *,
    cls: type[Trainer] = Trainer,
    dropout: float = 0.1,
    rows: int = 30,
    held_out: int = 10,
    wrap: Any = None,
    trainer_options: dict[str, Any] | None = None,
    **options: Any,
) -> Trainer:
    """A trainer; ``wrap`` may replace its model."""
    set_seed(42)
    build, data = MODELS[kind]
    model = build(dropout)
    return cls(
        model if wrap is None else wrap(model),
        arguments(folder, **options),
        **{
            "train_dataset": data(rows),
            "eval_dataset": data(held_out, 1) if held_out else None,
            **(trainer_options or {}),
        },
    )


def losses(trainer: Trainer) -> list[float]:
    """The training losses that the trainer has logged, one per update."""
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
