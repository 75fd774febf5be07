# Everything runs in .venv, which is made once and made again when the requirements change.
PYTHON ?= python3
VENV   ?= .venv
PIP     = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
NEEDS   = pyproject.toml constraints.txt

.PHONY: demo test lint bench-overhead clean

demo: $(VENV)/.made-demo
	$(VENV)/bin/lrsearch demo

test: $(VENV)/.made-test
	$(VENV)/bin/python -m pytest

lint: $(VENV)/.made-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

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

clean:
	rm -rf $(VENV) .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis
