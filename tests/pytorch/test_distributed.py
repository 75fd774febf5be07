"""Several processes search together: one answer, no trace, no hang. Real processes, real gloo."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lrsearch import Result
from lrsearch.pytorch.trainable import torch_trainable
from tests.pytorch import scenarios as on_rank
from tests.pytorch.processes import Group, run

WRAPPERS = ("ddp", "fsdp")
PLACES = ("loader", "loss", "step", "progress")
CLIPPED = {"clip_grad_norm": 0.5, "accumulate": 2}

ON_TWO: dict[str, Any] = {
    "race": on_rank.race,
    "settings differ": on_rank.settings_differ,
    "not wrapped": on_rank.not_wrapped,
    "progress": on_rank.progress_is_shown_by,
    "gradients in buckets": on_rank.gradients_in_buckets,
    "unused parameters": on_rank.unused_parameters,
    "static graph": on_rank.static_graph,
    "compressed": on_rank.compressed,
    "exchanges": on_rank.exchanges,
    "sampled": on_rank.sampled,
    "draws alike": partial(on_rank.draws, seeds="alike"),
    "draws apart": partial(on_rank.draws, seeds="apart"),
}
for _wrapper in WRAPPERS:
    ON_TWO[f"curves {_wrapper}"] = partial(on_rank.curves, wrapper=_wrapper)
    ON_TWO[f"clipped {_wrapper}"] = partial(on_rank.curves, wrapper=_wrapper, **CLIPPED)
    ON_TWO[f"diverging {_wrapper}"] = partial(on_rank.diverging, wrapper=_wrapper)
    ON_TWO[f"held out {_wrapper}"] = partial(on_rank.held_out, wrapper=_wrapper)
    ON_TWO[f"scaled {_wrapper}"] = partial(on_rank.scaled, wrapper=_wrapper)
    ON_TWO[f"uneven groups {_wrapper}"] = partial(on_rank.uneven_groups, wrapper=_wrapper)
    for _trained in (0, 3):
        ON_TWO[f"trace {_wrapper} {_trained}"] = partial(
            on_rank.no_trace,
            wrapper=_wrapper,
            trained=_trained,
            search=on_rank.searched_twice,
            net=on_rank.network,
        )
    for _place in (
        *PLACES,
        "Ctrl-C",
        *(("forward", "backward", "first layer", "own hook") if _wrapper == "ddp" else ()),
    ):
        _how = (
            {"place": "loss", "error": KeyboardInterrupt}
            if _place == "Ctrl-C"
            else {"place": _place}
        )
        ON_TWO[f"failed {_wrapper} {_place}"] = partial(
            on_rank.no_trace,
            wrapper=_wrapper,
            trained=3,
            search=partial(on_rank.failed, **_how),
            net=on_rank.network,
        )

    for _place in ("forward", "backward"):
        ON_TWO[f"failed {_wrapper} everywhere in {_place}"] = partial(
            on_rank.no_trace,
            wrapper=_wrapper,
            trained=3,
            search=partial(on_rank.failed, place=_place, everybody=True),
            net=on_rank.network,
        )

for _name in on_rank.DIFFERENT:
    ON_TWO[f"different {_name}"] = partial(on_rank.differing, name=_name)
for _method in ("range", "race", "sweep"):
    ON_TWO[f"held-out NaN {_method}"] = partial(on_rank.held_out_nan, method=_method)

ON_FOUR: dict[str, Any] = {
    "two teams": on_rank.two_teams,
    "curves ddp": ON_TWO["curves ddp"],
    "diverging ddp": ON_TWO["diverging ddp"],
    "held out ddp": ON_TWO["held out ddp"],
    "trace ddp 0": ON_TWO["trace ddp 0"],
    "trace ddp 3": ON_TWO["trace ddp 3"],
    "failed ddp loss": ON_TWO["failed ddp loss"],
    "failed ddp Ctrl-C": ON_TWO["failed ddp Ctrl-C"],
}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return run(2, ON_TWO, tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> Group:
    return run(4, ON_FOUR, tmp_path_factory.mktemp("four"))


@pytest.fixture(params=[2, 4])
def group(request: pytest.FixtureRequest) -> Group:
    return request.getfixturevalue({2: "two", 4: "four"}[request.param])  # type: ignore[no-any-return]


# -------------------------------------------------------------------------------- one answer


def agrees_with_one_process(group: Group, name: str, **options: Any) -> None:
    first, *others = group.values(name)
    assert all(other == first for other in others)
    assert first["status"] == "FOUND"
    model = on_rank.plain_network().double()
    batches = on_rank.exact(on_rank.whole(group.world))
    alone = on_rank.find(model, on_rank.adam(model), batches, method=on_rank.LONG, **options)
    assert len(first["losses"]) == len(alone.curves)
    for losses, curve in zip(first["losses"], alone.curves, strict=True):
        np.testing.assert_allclose(losses, curve.loss, rtol=1e-6)
    np.testing.assert_allclose(first["lr"], alone.lr, rtol=1e-6)


def test_replicas_measure_what_one_process_measures_on_the_whole_batches(group: Group) -> None:
    agrees_with_one_process(group, "curves ddp")


def test_sharded_models_do_too(two: Group) -> None:
    agrees_with_one_process(two, "curves fsdp")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_clipping_and_accumulation_are_those_of_one_process(two: Group, wrapper: str) -> None:
    agrees_with_one_process(two, f"clipped {wrapper}", **CLIPPED)


def test_a_race_ranks_by_the_held_out_loss_of_all_and_says_why_lanes_wait_in_turn(
    two: Group,
) -> None:
    first, second = two.values("race")
    assert first == second
    assert first["status"] == "FOUND"
    assert any(first["held out"])
    assert first["lanes"] == ("in turn: the model is spread over 2 processes, which train one lane")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_one_rank_that_diverges_stops_all_at_the_same_update(two: Group, wrapper: str) -> None:
    stops_together(two, f"diverging {wrapper}")


def test_four_ranks_stop_at_the_same_update_too(four: Group) -> None:
    stops_together(four, "diverging ddp")


def stops_together(group: Group, name: str) -> None:
    first, *others = group.values(name)
    assert first["stops"] == ["NOT_FINITE", "COMPLETED", "COMPLETED"]
    assert [len(losses) for losses in first["losses"]] == [9, 12, 12]
    for other in others:
        assert other["stops"] == first["stops"]
        np.testing.assert_array_equal(other["losses"][0], first["losses"][0])


def test_the_held_out_loss_weighs_every_example_of_every_rank_alike(group: Group) -> None:
    mean = held_out_loss_of_one_process(group.world)
    np.testing.assert_allclose(group.values("held out ddp"), mean, rtol=1e-6)


def test_a_rank_without_held_out_batches_does_not_block_sharded_models(two: Group) -> None:
    mean = held_out_loss_of_one_process(2)
    np.testing.assert_allclose(two.values("held out fsdp"), mean, rtol=1e-6)


def held_out_loss_of_one_process(world: int) -> float:
    model = on_rank.network()
    batches = [batch for rank in range(world) for batch in on_rank.held_out_of(rank, world)]
    everything = (torch.cat([x for x, _ in batches]), torch.cat([y for _, y in batches]))
    trainable: Any = torch_trainable(
        model, on_rank.adam(model), on_rank.LOSS, batches, val_loader=[everything]
    )
    return float(trainable.evaluate().loss)


def test_arguments_that_differ_between_ranks_are_refused_on_all(two: Group) -> None:
    first, second = two.values("settings differ")
    assert first == second
    assert first.startswith("train_steps: got 10 on rank 0, 11 on rank 1, expected the same")


@pytest.mark.parametrize("name", on_rank.DIFFERENT)
def test_every_argument_that_shapes_updates_must_be_the_same(two: Group, name: str) -> None:
    first, second = two.values(f"different {name}")
    assert first == second
    assert first.startswith(f"{name}: got ")
    assert " on rank 0, " in first


@pytest.mark.parametrize("method", ["range", "race", "sweep"])
def test_a_held_out_nan_of_one_rank_is_the_same_answer_on_all(two: Group, method: str) -> None:
    first, second = two.values(f"held-out NaN {method}")
    assert first == second
    assert first[0] not in ("FOUND", "AT_EDGE")


def test_a_model_that_is_not_wrapped_is_searched_by_its_own_process_alone(two: Group) -> None:
    assert two.values("not wrapped") == [True, True]


def test_two_teams_of_processes_search_at_once_without_waiting_for_each_other(
    four: Group,
) -> None:
    first, second, third, fourth = four.values("two teams")
    assert first == second
    assert third == fourth
    assert first["losses"] != third["losses"]


def test_only_the_first_rank_shows_progress(two: Group) -> None:
    assert two.values("progress") == [(True, True), (False, False)]


# --------------------------------------------------------------------------------- no trace


@pytest.mark.parametrize("name", [name for name in ON_TWO if name.startswith(("trace", "failed"))])
def test_two_ranks_train_on_as_if_nothing_had_happened(two: Group, name: str) -> None:
    assert two.values(name) == [True, True]


@pytest.mark.parametrize("name", [name for name in ON_FOUR if name.startswith(("trace", "failed"))])
def test_four_ranks_train_on_as_if_nothing_had_happened(four: Group, name: str) -> None:
    assert four.values(name) == [True] * 4


@pytest.mark.parametrize(
    "name", ["gradients in buckets", "unused parameters", "static graph", "compressed"]
)
def test_special_replicas_are_as_before(two: Group, name: str) -> None:
    assert two.values(name) == [True, True]


@pytest.mark.parametrize(("wrapper", "place"), [("ddp", "killed"), ("fsdp", "forward")])
def test_a_rank_that_is_lost_in_the_middle_of_an_exchange_ends_the_search_of_all(
    wrapper: str, place: str, tmp_path: Path
) -> None:
    group = run(2, {"lost": partial(on_rank.lost, wrapper=wrapper, place=place)}, tmp_path)
    survivor = group.returned("lost", range(1))[0]
    assert survivor.error is None
    said, restored = survivor.value
    assert said.startswith(("RankFailed: rank 0 lost", "RuntimeError"))
    assert restored
    if place == "killed":
        assert group.exit_codes[1] == 9
    else:
        (_, culprit) = group.returned("lost")
        assert culprit.value == ("Broken: on purpose", True)


ALONE = {
    "never comes": on_rank.never_comes,
    "comes once more": on_rank.comes_once_more,
    "is not wrapped": on_rank.unwrapped_on_one,
    "hangs in the middle": on_rank.hangs_in_the_middle,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALONE)
def test_who_is_missing_is_said_on_standard_error_and_then_an_error(
    name: str, tmp_path: Path
) -> None:
    first, second = run(2, {"missing": partial(ALONE[name])}, tmp_path).values("missing")
    waiting, missing = (second, 0) if name == "comes once more" else (first, 1)
    said, error = waiting
    assert len(said.splitlines()) == 1
    assert f"waits for rank {missing} " in said
    assert "gives up after " in said
    assert error.startswith("RankFailed: ")


def test_the_example_runs_under_torchrun(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "examples" / "ddp.py"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run_of_it = subprocess.run(
        [*launch, str(example)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run_of_it.returncode == 0, run_of_it.stderr
    # Two processes print at once: a line may hold both answers, and the next one none.
    answers = re.findall(r"rank \d: learning rate ([\d.e-]+?)(?=rank|\s|$)", run_of_it.stdout)
    assert len(answers) == 2
    assert len(set(answers)) == 1
    assert Result.from_json(tmp_path / "ddp.json").status.found


# ------------------------------------------------------------------------------ one exchange


def test_gradients_are_exchanged_once_per_update_whatever_is_accumulated(two: Group) -> None:
    first, second = two.values("exchanges")
    assert first == second
    count, last_bucket, _ = first
    assert last_bucket == 0
    assert count == 10


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_ranks_whose_passes_end_at_different_updates_keep_the_same_weights(
    two: Group, wrapper: str
) -> None:
    first, second = two.values(f"uneven groups {wrapper}")
    assert first == second


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_an_update_that_overflows_on_one_rank_is_skipped_and_made_again_by_all(
    two: Group, wrapper: str
) -> None:
    first, second = two.values(f"scaled {wrapper}")
    assert first == second
    losses, calls, scale = first
    assert len(losses) == 4
    assert max(losses) < 10.0
    assert calls == 5
    assert scale == 512.0


# ------------------------------------------------------------------------ data and randomness


def test_a_distributed_sampler_gives_every_rank_its_own_examples(two: Group) -> None:
    (first, epoch), (second, _) = two.values("sampled")
    assert sorted(first + second) == list(range(64))
    assert epoch == 3


def test_random_states_that_are_alike_stay_so_and_others_stay_different(two: Group) -> None:
    first, second = two.values("draws alike")
    assert first == second
    first, second = two.values("draws apart")
    assert not set(first) & set(second)
