"""Many learning rates in one step, against as many sequential trials.

``python -m benchmarks.batched`` measures on one processor core and writes
``benchmarks/results/batched.json``:

- steps: one step of 16 and 32 batched trials; the same number of separate nets in a bare training
  loop and as trainables of this package; and the bare matrix products of the same shapes;
- ways: the gradients of all trials computed in six ways;
- updates: the optimizer's update in four memory layouts;
- rounds: whole searches on tasks of the regret benchmark, with batching left to the measurement
  and without.

Everything compared takes turns within each repetition; ratios are taken within a repetition,
and their medians and quartiles are given, of wall time and of processor time, which hardly
depends on what else the machine does.

``--device cuda`` measures 16 trials against one net of a CNN, a transformer and an MLP; without a
GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmarks.batched_tools import (
    LR,
    NETS,
    OPTIMIZERS,
    Action,
    Net,
    bare_steps,
    batched_step,
    gpu_problems,
    roofline,
    trainable_steps,
    updates,
    ways,
)
from benchmarks.environment import environment
from benchmarks.regret.tasks import by_name
from benchmarks.results_file import write_json
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.sweep import Sweep
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable

TRIALS = (16, 32)
PARTS = ("steps", "ways", "updates", "rounds")
TARGETS = {  # speed-up over separate runs at 16 and 32 trials, as the project asks for
    "two-layer net 1-20-1": (9.0, 18.0),
    "logistic regression 64-10": (6.0, 9.0),
    "MLP 64-64-10": (5.0, 7.0),
}
ROUNDS = {  # task: steps of all trials together
    "sine-twolayer-sgd": 8000,
    "dimdigits-softmax-sgd": 8000,
    "digits-mlp-adam": 4800,
    "digits-dropout-adamw": 4800,
    "digits-autoencoder-rmsprop": 4800,
    "digits-cnn-nesterov": 2400,
    "digits-resnet-heavyball": 1600,
    "digits-gru-adam": 1600,
    "digits-mlp-muon": 1600,
    "words-embeddingbag-adagrad": 2400,
    "code-transformer-nesterov": 1200,
    "finetune-frozencnn-heavyball": 2400,
}


def timed(action: Action, times: int) -> tuple[float, float]:
    """Wall time and processor time of one call, in seconds, averaged over some."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(times):
        action()
    return (time.perf_counter() - wall) / times, (time.process_time() - processor) / times


def in_turns(actions: dict[str, tuple[Action, int]], repetitions: int) -> dict[str, Any]:
    """Time every action in every repetition; the order moves on, the first one is dropped.

    Returns:
        ``{action: [(wall, processor) per repetition]}``.
    """
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in actions}
    names = list(actions)
    gc.disable()
    try:
        for number in range(repetitions + 1):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                found[name].append(timed(*actions[name]))
            gc.collect()
    finally:
        gc.enable()
    return {name: pairs[1:] for name, pairs in found.items()}


def quartiles(values: Sequence[float]) -> dict[str, float]:
    found = statistics.quantiles(values, n=4)
    return {
        name: float(f"{value:.4g}")
        for name, value in zip(("q1", "median", "q3"), found, strict=True)
    }


def microseconds(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    return quartiles([1e6 * wall for wall, _ in pairs])


def ratios(
    above: Sequence[tuple[float, float]], below: Sequence[tuple[float, float]]
) -> dict[str, dict[str, float]]:
    """Quartiles of above / below within repetitions, of wall and of processor time."""
    return {
        clock: quartiles([a[k] / b[k] for a, b in zip(above, below, strict=True)])
        for k, clock in enumerate(("wall", "processor"))
    }


def measure_steps(net: Net, optimizer: str, trials: int, repetitions: int) -> dict[str, Any]:
    """One step of batched trials, of separate nets, and the bare products."""
    step, group = batched_step(net, optimizer, trials)
    with group:
        times = in_turns(
            {
                "batched": (step, 50),
                "bare loop": (bare_steps(net, optimizer, trials), 3),
                "trainables": (trainable_steps(net, optimizer, trials), 3),
                "products, examples last": (roofline(net, trials, turned=True), 50),
                "products, features last": (roofline(net, trials, turned=False), 50),
            },
            repetitions,
        )
    last, first = times["products, examples last"], times["products, features last"]
    products = [min(pair) for pair in zip(last, first, strict=True)]
    target = TARGETS[net.name][TRIALS.index(trials)]
    return {
        "net": net.name,
        "optimizer": optimizer,
        "trials": trials,
        "microseconds": {name: microseconds(pairs) for name, pairs in times.items()},
        "speedup_over_bare_loop": ratios(times["bare loop"], times["batched"]),
        "speedup_over_trainables": ratios(times["trainables"], times["batched"]),
        "target_speedup": target,
        "step_over_products": ratios(times["batched"], products),
    }


def measure_parts(
    parts: Callable[[Net, int], dict[str, Action]], repetitions: int
) -> list[dict[str, Any]]:
    rows = []
    for net in NETS:
        for trials in TRIALS:
            actions = {name: (action, 20) for name, action in parts(net, trials).items()}
            times = in_turns(actions, repetitions)
            found = {name: microseconds(pairs) for name, pairs in times.items()}
            rows.append({"net": net.name, "trials": trials, "microseconds": found})
    return rows


def measure_round(task: str, trials: int, steps: int, repetitions: int) -> dict[str, Any]:
    """A search that trains every trial for ``steps``, batched where that is faster and not."""
    said: dict[str, str] = {}

    def search(vectorise: bool | None) -> Action:
        def run() -> None:
            problem = by_name(task).build(0)
            subject = torch_trainable(
                problem.model,
                problem.optimizer,
                problem.loss_fn,
                problem.train_loader,
                val_loader=problem.val_loader,
                vectorise=vectorise,
            )
            lr = float(problem.optimizer.param_groups[0]["lr"])
            method = Sweep([lr * 10 ** (-k / trials) for k in range(trials)])
            outcome = run_search(subject, method, Plan(train_steps=steps))
            said[str(vectorise)] = str(outcome.settings["lanes"])

        return run

    actions = {"as measured": (search(None), 1), "sequential": (search(False), 1)}
    times = in_turns(actions, repetitions)
    return {
        "task": task,
        "trials": trials,
        "steps": steps,
        "decision": said["None"],
        "seconds": {name: quartiles([wall for wall, _ in pairs]) for name, pairs in times.items()},
        "speedup": ratios(times["sequential"], times["as measured"]),
    }


def measure_cpu(
    repetitions: int,
    round_repetitions: int,
    round_trials: Sequence[int],
    only: Sequence[str],
) -> dict[str, Any]:
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    if "steps" in only:
        found["steps"] = []
        for net, optimizer, trials in itertools.product(NETS, OPTIMIZERS, TRIALS):
            found["steps"].append(measure_steps(net, optimizer, trials, repetitions))
            print_step(found["steps"][-1])
    if "ways" in only:
        found["ways"] = measure_parts(ways, repetitions)
    if "updates" in only:
        found["updates"] = measure_parts(updates, repetitions)
    if "rounds" in only:
        found["rounds"] = []
        for (task, steps_in_all), trials in itertools.product(ROUNDS.items(), round_trials):
            row = measure_round(task, trials, steps_in_all // trials, round_repetitions)
            found["rounds"].append(row)
            print_round(row)
    return found


def measure_cuda(repetitions: int, trials: int = 16) -> dict[str, Any]:
    lrs = [LR] * trials
    rows = []
    for name, (model, batches) in gpu_problems().items():
        single = cuda_trainable(model, batches)
        group = cuda_trainable(model, batches).lanes(trials, 1000)
        if group is None:
            raise RuntimeError("these nets can be batched")
        with group:
            for _ in range(6):
                group.step(lrs)
            actions: dict[str, tuple[Action, int]] = {
                "one net": (partial(single.step, LR), 20),
                "batched": (partial(group.step, lrs), 20),
            }
            times = in_turns(actions, repetitions)
        rows.append(
            {
                "net": name,
                "trials": trials,
                "microseconds": {label: microseconds(pairs) for label, pairs in times.items()},
                "over_one_net": ratios(times["batched"], times["one net"]),
                "target": 1.5,
            }
        )
        print(rows[-1], flush=True)
    return {"device": torch.cuda.get_device_name(), "steps": rows}


def cuda_trainable(model: nn.Module, batches: Sequence[Any]) -> TorchTrainable:
    moved = model.to("cuda")
    data = [tuple(part.to("cuda") for part in batch) for batch in batches]
    optimizer = torch.optim.Adam(moved.parameters(), lr=LR)
    return TorchTrainable(moved, optimizer, nn.functional.cross_entropy, data, vectorise=True)


def print_step(row: dict[str, Any]) -> None:
    times = row["microseconds"]
    print(
        f"{row['net']:26} {row['optimizer']:5} {row['trials']:3} trials "
        f"{times['batched']['median']:8.1f} us, bare loop {times['bare loop']['median']:9.1f} us: "
        f"{row['speedup_over_bare_loop']['wall']['median']:5.1f} x "
        f"(target {row['target_speedup']:g}), over trainables "
        f"{row['speedup_over_trainables']['wall']['median']:5.1f} x, "
        f"{row['step_over_products']['wall']['median']:4.2f} x the products",
        flush=True,
    )


def print_round(row: dict[str, Any]) -> None:
    print(
        f"{row['task']:30} {row['trials']:3} trials x {row['steps']}: "
        f"{row['speedup']['wall']['median']:6.2f} x ({row['decision']})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repetitions", type=int, default=25)
    parser.add_argument("--round-repetitions", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS)
    parser.add_argument("--round-trials", type=int, nargs="*", default=(4, 16))
    parser.add_argument("--name", default=None, help="of the JSON, without its ending")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        print("There is no CUDA device here: nothing was measured.")
        return
    if arguments.device == "cuda":
        found = measure_cuda(arguments.repetitions)
    else:
        found = measure_cpu(
            arguments.repetitions,
            arguments.round_repetitions,
            arguments.round_trials,
            arguments.only,
        )
    about = {
        "what": __doc__.splitlines()[0] if __doc__ else "",
        "environment": environment("lrsearch", "torch", "numpy"),
        "threads": torch.get_num_threads(),
        "repetitions": arguments.repetitions,
        "round_repetitions": arguments.round_repetitions,
    }
    name = arguments.name or ("batched" if arguments.device == "cpu" else "batched-cuda")
    print(write_json(name, {**about, **found}))


if __name__ == "__main__":
    main()
