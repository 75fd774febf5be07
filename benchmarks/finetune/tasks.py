"""The fine-tunings: a pretrained model, a small data set, and a `Trainer` with its defaults.

AdamW, no weight decay, batches of 8, gradients clipped to 1, lr falling in a line to zero over
three epochs. Everything but lr and seed is as `TrainingArguments` has it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.finetune.bert import bert_config, bert_weights
from benchmarks.finetune.corpus import (
    CLS,
    KINDS,
    LENGTH,
    characters,
    encode,
    language_reference,
    shuffled,
    texts_by_kind,
    tokenised_library,
    windows,
)
from benchmarks.finetune.pretrain import gpt2_config, gpt2_weights
from benchmarks.regret.tasks.finetune import pretrained

TOKENS = 16  # of a row of GPT-2's; shorter than what it was pretrained on, as is usual
EXAMPLES, HELD_OUT = 400, 256
EVAL_BATCH = 64  # decides nothing but speed
EPOCHS, BATCH = 3, 8  # the defaults of `TrainingArguments`
DEFAULT_LR = 5e-5  # likewise


@dataclass(frozen=True)
class Data:
    """Token rows (n, length) and labels: classes (n,), or the rows again for a language model."""

    train: tuple[Tensor, Tensor]
    held_out: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class FineTuning:
    """One task.

    Attributes:
        name: ``model-data``, with ``-lora`` where only an adapter is trained.
        model: ``model(seed)``: the pretrained model; the seed decides a new head or adapter.
        data: gives the data set, which is the same for all seeds.
        steps: optimizer steps of the planned run.
    """

    name: str
    model: Callable[[int], Any]
    data: Callable[[], Data]
    steps: int = EPOCHS * EXAMPLES // BATCH


def gpt2(seed: int) -> Any:
    """The pretrained GPT-2, in which nothing is new."""
    from transformers import GPT2LMHeadModel

    weights = pretrained(gpt2_weights)
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(gpt2_config())
    model.load_state_dict(weights)
    return model


def gpt2_lora(seed: int) -> Any:
    """The same with an adapter on the attention's projections."""
    return _adapted(gpt2(seed), "CAUSAL_LM", ["c_attn"], fan_in_fan_out=True)


def bert(seed: int) -> Any:
    """The pretrained BERT with a new head for the kinds of text."""
    from transformers import BertForSequenceClassification

    weights = pretrained(bert_weights)
    torch.manual_seed(seed)
    model = BertForSequenceClassification(bert_config(num_labels=len(KINDS)))
    body = {key: value for key, value in weights.items() if key.startswith("bert.")}
    model.load_state_dict(body, strict=False)  # a head and a pooler are new
    return model


def _adapted(model: Any, kind: str, modules: list[str], **settings: Any) -> Any:
    """Low-rank adapters of rank 8 with alpha 16. Hu et al., arXiv 2106.09685, section 4.1."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=8, lora_alpha=16, lora_dropout=0.0, target_modules=modules, task_type=kind, **settings
    )
    return get_peft_model(model, config)


@functools.cache
def prose() -> Data:
    """The language reference, of which the pretraining has seen nothing."""
    tokenizer = pretrained(tokenised_library)["tokenizer"]
    rows = shuffled(windows(encode(language_reference(), tokenizer), TOKENS))
    return _split(rows, rows)


@functools.cache
def kinds() -> Data:
    """Is a passage of 31 characters prose, docstring, comment or code? All equally frequent."""
    each = -(-(EXAMPLES + HELD_OUT) // len(KINDS))
    texts = texts_by_kind()
    passages = [shuffled(windows(characters(texts[k]), LENGTH - 1))[:each] for k in KINDS]
    rows = F.pad(torch.cat(passages), (1, 0), value=CLS)
    labels = torch.arange(len(KINDS)).repeat_interleave(each)
    return _split(shuffled(rows), shuffled(labels))


def _split(inputs: Tensor, labels: Tensor) -> Data:
    train, held_out = slice(EXAMPLES), slice(EXAMPLES, EXAMPLES + HELD_OUT)
    return Data((inputs[train], labels[train]), (inputs[held_out], labels[held_out]))


def make_trainer(task: FineTuning, seed: int, lr: float = DEFAULT_LR, steps: int = -1) -> Any:
    """The `Trainer` of a task.

    Args:
        task: gives model and data.
        seed: of new weights, data order and dropout.
        lr: the peak learning rate.
        steps: optimizer steps, with the schedule laid over them; three epochs by default.
    """
    from transformers import PrinterCallback, Trainer, TrainingArguments

    data = task.data()
    arguments = TrainingArguments(
        learning_rate=lr,
        max_steps=steps,
        seed=seed,
        per_device_eval_batch_size=EVAL_BATCH,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
    )
    trainer = Trainer(
        model=task.model(seed),
        args=arguments,
        train_dataset=_examples(*data.train),
        eval_dataset=_examples(*data.held_out),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _examples(inputs: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    return [{"input_ids": row, "labels": label} for row, label in zip(inputs, labels, strict=True)]


TASKS = (
    FineTuning("gpt2-prose", gpt2, prose),
    FineTuning("gpt2-prose-lora", gpt2_lora, prose),
    FineTuning("bert-kinds", bert, kinds),
)


def by_name(name: str) -> FineTuning:
    """The task of that name.

    Raises:
        KeyError: there is none; the message lists the names.
    """
    for task in TASKS:
        if task.name == name:
            return task
    raise KeyError(f"no fine-tuning named {name!r}; known: {', '.join(t.name for t in TASKS)}")


def shortened(task: FineTuning, fraction: float) -> FineTuning:
    """The same task with a run of a fraction of its length."""
    return dataclasses.replace(task, steps=max(2, round(task.steps * fraction)))
