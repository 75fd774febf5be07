from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import LambdaLR

from lrsearch import InvalidArgument, InvalidResultFile, NoLearningRateFound, Result
from lrsearch.core.curve import Curve
from tests.report.outcomes import EVERY_KIND, broken_line, flat, outcome_of, sweep


def result(**changes: Any) -> Result:
    return Result.from_outcome(outcome_of(broken_line()), lr=0.01, low=0.001, high=0.1, **changes)


def parameters(count: int = 1) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(torch.ones(2)) for _ in range(count)]


def two_groups(optimizer: type[torch.optim.Optimizer] = torch.optim.SGD, **options: Any) -> Any:
    first, second = parameters(2)
    groups: Any = [{"params": [first], "lr": 0.5}, {"params": [second], "lr": 0.125}]
    return optimizer(groups, **options)


def lrs(optimizer: torch.optim.Optimizer) -> list[float]:
    return [float(group["lr"]) for group in optimizer.param_groups]


class TestApply:
    def test_the_only_group_gets_the_lr(self) -> None:
        optimizer = torch.optim.SGD(parameters(), lr=0.5)
        result().apply(optimizer)
        assert lrs(optimizer) == [0.01]

    def test_groups_keep_their_ratios(self) -> None:
        optimizer = two_groups()
        result(multipliers=(1.0, 0.25)).apply(optimizer)
        assert lrs(optimizer) == [0.01, 0.0025]

    def test_a_tensor_lr_is_filled_and_stays_the_same_tensor(self) -> None:
        optimizer = torch.optim.Adam(parameters(), lr=torch.tensor(0.5), capturable=False)
        tensor = optimizer.param_groups[0]["lr"]
        result().apply(optimizer)
        assert optimizer.param_groups[0]["lr"] is tensor
        assert float(tensor) == pytest.approx(0.01)

    def test_a_scheduler_goes_on_from_its_place_with_the_new_base(self) -> None:
        optimizer = two_groups()
        scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
        for _ in range(3):
            optimizer.step()
            scheduler.step()
        result(multipliers=(1.0, 0.25)).apply(optimizer, scheduler)
        assert lrs(optimizer) == pytest.approx([0.01 / 8, 0.0025 / 8])
        optimizer.step()
        scheduler.step()
        assert lrs(optimizer) == pytest.approx([0.01 / 16, 0.0025 / 16])

    def test_another_number_of_groups_is_refused_and_nothing_is_set(self) -> None:
        optimizer = two_groups()
        with pytest.raises(InvalidArgument, match=r"2 parameter groups.*the 1 groups"):
            result().apply(optimizer)
        assert lrs(optimizer) == [0.5, 0.125]

    def test_without_an_answer_nothing_is_set_and_the_error_says_why(self) -> None:
        optimizer = torch.optim.SGD(parameters(), lr=0.5)
        nothing = Result.from_outcome(flat())
        with pytest.raises(NoLearningRateFound, match="did not fall") as caught:
            nothing.apply(optimizer)
        assert caught.value.result is nothing
        assert lrs(optimizer) == [0.5]

    def test_only_lrs_are_changed(self) -> None:
        optimizer = torch.optim.AdamW(parameters(), lr=0.5, weight_decay=0.3)
        before = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("lr", "params")}
        result().apply(optimizer)
        after = {k: v for k, v in optimizer.param_groups[0].items() if k not in ("lr", "params")}
        assert after == before


class TestSchedulers:
    def test_one_cycle_peaks_at_the_lr_of_every_group(self) -> None:
        optimizer = two_groups(momentum=0.9)
        scheduler = result(multipliers=(1.0, 0.25)).one_cycle(optimizer, total_steps=40)
        seen = [lrs(optimizer)]
        for _ in range(39):
            optimizer.step()
            scheduler.step()
            seen.append(lrs(optimizer))
        assert np.max(seen, axis=0) == pytest.approx([0.01, 0.0025], rel=1e-3)

    def test_one_cycle_passes_its_options_on(self) -> None:
        optimizer = torch.optim.Adam(parameters(), lr=0.5)
        result().one_cycle(optimizer, total_steps=10, div_factor=10.0)
        assert lrs(optimizer) == pytest.approx([0.001])

    @pytest.mark.parametrize(
        ("optimizer", "options"), [(torch.optim.SGD, {"momentum": 0.9}), (torch.optim.Adam, {})]
    )
    def test_cyclic_moves_between_low_and_high(self, optimizer: Any, options: Any) -> None:
        trained = two_groups(optimizer, **options)
        scheduler = result(multipliers=(1.0, 0.25)).cyclic(trained, step_size_up=5)
        seen = [lrs(trained)]
        for _ in range(20):
            trained.step()
            scheduler.step()
            seen.append(lrs(trained))
        assert np.min(seen, axis=0) == pytest.approx([0.001, 0.00025])
        assert np.max(seen, axis=0) == pytest.approx([0.1, 0.025])

    def test_without_an_answer_there_is_no_schedule(self) -> None:
        optimizer = torch.optim.SGD(parameters(), lr=0.5)
        with pytest.raises(NoLearningRateFound):
            Result.from_outcome(flat()).one_cycle(optimizer, total_steps=10)
        with pytest.raises(NoLearningRateFound):
            Result.from_outcome(flat()).cyclic(optimizer)
        assert lrs(optimizer) == [0.5]


class TestJson:
    @pytest.mark.parametrize("name", EVERY_KIND)
    def test_what_is_written_is_read_again(self, name: str, tmp_path: Path) -> None:
        written = Result.from_outcome(EVERY_KIND[name])
        text = written.to_json(tmp_path / "r.json")
        read = Result.from_json(tmp_path / "r.json")
        assert isinstance(read, Result)
        assert read.curves == written.curves
        assert read.to_json() == text == (tmp_path / "r.json").read_text("utf-8")
        for field in dataclasses.fields(Result):
            assert repr(getattr(read, field.name)) == repr(getattr(written, field.name))

    @pytest.mark.parametrize("name", EVERY_KIND)
    def test_the_text_is_standard_json(self, name: str) -> None:
        outcome = EVERY_KIND[name]
        written: list[str] = []
        text = Result.from_outcome(outcome).to_json()
        content = json.loads(text, parse_constant=written.append)
        assert written == []  # NaN, Infinity and -Infinity are Python's own
        assert float(content["lr"]) == pytest.approx(outcome.lr, nan_ok=True)
        losses = [list(map(float, curve["loss"])) for curve in content["curves"]]
        for mine, curve in zip(losses, outcome.curves, strict=True):
            np.testing.assert_array_equal(mine, curve.loss)

    def test_the_check_for_standard_json_finds_what_is_none(self) -> None:
        written: list[str] = []
        json.loads("[NaN, Infinity, -Infinity]", parse_constant=written.append)
        assert written == ["NaN", "Infinity", "-Infinity"]

    def test_missing_folders_are_made(self, tmp_path: Path) -> None:
        result().to_json(tmp_path / "a" / "r.json")
        assert Result.from_json(tmp_path / "a" / "r.json").lr == 0.01

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("", "not JSON"),
            ("{", "not JSON"),
            ("[1, 2]", "not an lrsearch result"),
            ('{"format": "other"}', "not an lrsearch result"),
            ("\udcff", "not JSON"),
        ],
    )
    def test_a_damaged_file_is_named_in_the_error(
        self, content: str, words: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "r.json"
        file.write_bytes(content.encode("utf-8", "surrogateescape"))
        with pytest.raises(InvalidResultFile, match=words) as caught:
            Result.from_json(file)
        assert str(file) in str(caught.value)

    def test_every_cut_of_a_file_is_told_from_a_result(self, tmp_path: Path) -> None:
        text = Result.from_outcome(sweep()).to_json()
        file = tmp_path / "r.json"
        for end in range(0, len(text) - 2, 37):
            file.write_text(text[:end], "utf-8")
            with pytest.raises(InvalidResultFile):
                Result.from_json(file)

    def test_a_newer_version_asks_for_an_upgrade(self, tmp_path: Path) -> None:
        content = json.loads(result().to_json())
        content["version"] += 1
        (tmp_path / "r.json").write_text(json.dumps(content), "utf-8")
        with pytest.raises(InvalidResultFile, match="Upgrade lrsearch"):
            Result.from_json(tmp_path / "r.json")

    @pytest.mark.parametrize("name", ["lr", "status", "curves", "cost", "multipliers", "settings"])
    def test_a_missing_or_wrong_part_is_an_error(self, name: str, tmp_path: Path) -> None:
        content = json.loads(result().to_json())
        for damaged in (
            {key: value for key, value in content.items() if key != name},
            {**content, name: None},
        ):
            (tmp_path / "r.json").write_text(json.dumps(damaged), "utf-8")
            with pytest.raises(InvalidResultFile, match="damaged"):
                Result.from_json(tmp_path / "r.json")

    def test_a_missing_file_and_a_folder_are_errors_of_ours(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidResultFile, match="No such file"):
            Result.from_json(tmp_path / "none.json")
        with pytest.raises(InvalidResultFile, match="directory"):
            Result.from_json(tmp_path)

    def test_a_failed_write_leaves_the_old_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def half(self: Path, text: str, encoding: str) -> int:
            self.write_bytes(text[: len(text) // 2].encode())
            raise OSError(28, "No space left on device")

        file = tmp_path / "r.json"
        before = result().to_json(file)
        monkeypatch.setattr(Path, "write_text", half)
        with pytest.raises(OSError, match="No space"):
            result(why="another").to_json(file)
        assert file.read_text("utf-8") == before
        assert list(tmp_path.iterdir()) == [file]


def test_plot_and_report_write_where_they_are_told(tmp_path: Path) -> None:
    result().plot(tmp_path / "p.svg")
    written = result().report(tmp_path / "r.html")
    assert (tmp_path / "p.svg").read_text("utf-8").startswith("<?xml")
    assert written.read_text("utf-8").startswith("<!DOCTYPE html>")


def test_from_outcome_keeps_everything_and_takes_changes() -> None:
    outcome = sweep()
    same = Result.from_outcome(outcome)
    for field in dataclasses.fields(outcome):
        assert getattr(same, field.name) is getattr(outcome, field.name)
    assert Result.from_outcome(outcome, multipliers=(1.0, 3.0)).group_lrs == (0.01, 0.03)


def test_it_is_a_value() -> None:
    assert result() == result()
    assert result() != result(why="another")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result().lr = 1.0  # type: ignore[misc]
    assert isinstance(result().curves[0], Curve)


class TestShown:
    @pytest.mark.parametrize("kind", EVERY_KIND)
    def test_printing_a_result_fits_in_300_characters(self, kind: Any) -> None:
        text = repr(Result.from_outcome(EVERY_KIND[kind]))
        assert len(text) < 300
        assert "\n" not in text

    def test_printing_names_answer_interval_status_and_steps(self) -> None:
        text = repr(result())
        assert text.startswith("Result(lr=0.01, low=0.001, high=0.1, status=")
        assert f"steps={result().cost.steps})" in text

    def test_a_notebook_shows_a_card_that_says_what_to_do_next(self) -> None:
        card = result(why="<script>alert(1)</script>")._repr_html_()
        assert "result.apply(optimizer)" in card
        assert "<script>" not in card
        assert len(card) < 2000
