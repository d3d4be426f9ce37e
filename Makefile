PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo

.PHONY: test lint types demo bench clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

test: $(INSTALLED)  ## install and run every test
	$(BIN)/python -m pytest -n 2

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

demo: $(INSTALLED)  ## a simulated archive, its audit, the data set, and a picture of one frame, from nothing
	rm -rf $(DEMO)
	$(BIN)/veriserum simulate $(DEMO)/archive --trials 12 --frames-per-trial 4
	$(BIN)/veriserum audit $(DEMO)/archive
	$(BIN)/veriserum convert $(DEMO)/archive $(DEMO)/dataset
	$(BIN)/veriserum show $(DEMO)/dataset --output $(DEMO)/frame.png

bench: $(INSTALLED)  ## speed, memory and accuracy; writes the tables beside the benchmarks
	$(BIN)/python -m tests.benchmarks.bench_conversion
	$(BIN)/python -m tests.benchmarks.bench_simulation
	$(BIN)/python -m tests.benchmarks.bench_calibration

clean:
	rm -rf $(VENV) $(DEMO)
