# Everything runs in .venv, which is made once and made again when the requirements change.
PYTHON ?= python3
VENV   ?= .venv
PIP     = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
NEEDS   = pyproject.toml constraints.txt

BENCH_VENV   ?= .venv-bench
BENCH_PIP     = $(BENCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check \
                -c constraints.txt
BENCH_PYTHON  = OMP_NUM_THREADS=1 $(BENCH_VENV)/bin/python

.PHONY: demo test lint bench bench-quick bench-kinds bench-noise bench-overhead bench-finetune \
        oracle clean

demo: $(VENV)/.made-demo
	$(VENV)/bin/lrsearch demo

# One thread: the networks of the tests are too small to gain from more.
test: $(VENV)/.made-test
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest

lint: $(VENV)/.made-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# The benchmarks have an environment of their own, with the other tools in it.
bench: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.regret.bench --spread
	$(BENCH_PYTHON) -m benchmarks.regret.publish

bench-quick: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.regret.bench --quick

# Kinds of training that the tasks lack, by our methods.
bench-kinds: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.regret.bench --only ours --tasks new
	$(BENCH_PYTHON) -m benchmarks.regret.bench --only ours --tasks held-back
	$(BENCH_PYTHON) -m benchmarks.regret.publish

# Trainings from which nothing can be learned.
bench-noise: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.noise --store --processes 2
	$(BENCH_PYTHON) -m benchmarks.regret.publish

bench-overhead: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.import_time
	$(BENCH_PYTHON) -m benchmarks.overhead
	$(BENCH_PYTHON) -m benchmarks.integrations

bench-finetune: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.finetune.bench

oracle: $(BENCH_VENV)/.made-bench
	$(BENCH_PYTHON) -m benchmarks.regret.oracle

# PyTorch goes in by itself and first, so that nothing else can choose another build of it.
$(VENV)/.made-base: $(NEEDS)
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(VENV)/.made-demo: $(VENV)/.made-base
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.made-test: $(VENV)/.made-base
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.made-demo

# fastai names torchvision and spacy as dependencies, but its learning-rate finder needs neither.
$(BENCH_VENV)/.made-bench: $(NEEDS)
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_PIP) torch
	$(BENCH_PIP) -e '.[bench]'
	$(BENCH_PIP) --no-deps fastai
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
