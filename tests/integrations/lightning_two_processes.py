"""Run by the test of that name, and then by Lightning, which starts the second process."""

from __future__ import annotations

import hashlib
import json
import logging
import pathlib
import sys
import warnings
from typing import Any

import torch

import lrsearch
from lrsearch.integrations.lightning import LearningRateSearch, find_lr_for
from tests.integrations.lightning_parts import Recorder, Validated, loader, seeded, trainer

RANGE = lrsearch.RangeTest(steps=40, min_lr=1e-3, max_lr=1.0)


def digest(module: Any) -> str:
    values = b"".join(p.detach().numpy().tobytes() for p in module.parameters())
    return hashlib.sha256(values).hexdigest()


def told(found: Any) -> Any:
    return {"lr": found.lr, "losses": [curve.loss.tolist() for curve in found.curves]}


def main(folder: pathlib.Path, *, search: bool) -> None:
    inside = LearningRateSearch([3], at_epochs=[], method=RANGE, progress=False, throw=False)
    recorder = Recorder()
    callbacks = [inside, recorder] if search else [recorder]
    train = trainer(callbacks=callbacks, strategy="ddp", devices=2)
    module = seeded(lambda: Validated(norm=True, dropout=0.1))
    said: dict[str, Any] = {}
    torch.manual_seed(11)
    data = {"train_dataloaders": loader(shuffle=True), "val_dataloaders": loader(64)}
    if search:
        for method in (RANGE, "race"):
            options: dict[str, Any] = {"method": method, "train_steps": 60, "progress": False}
            found = find_lr_for(train, module, **data, **options, throw=False)
            said[found.settings["method"]] = told(found)  # type: ignore[index]
            said["lanes"] = found.settings["lanes"]
    train.fit(module, **data)
    said["middle"] = [told(found) for found in inside.results.values()]
    said["trained"] = digest(module)
    said["fit"] = recorder.losses
    (folder / f"{search}-{train.global_rank}.json").write_text(json.dumps(said), "utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning.utilities.rank_zero").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    main(pathlib.Path(sys.argv[1]), search=sys.argv[2] == "search")
