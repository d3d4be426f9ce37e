PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO := demo
SPACE := space-build
BENCH_DATA := bench-data
FUZZ_DATA := fuzz-data

.PHONY: test lint types docs demo space bench bench-accuracy bench-registration bench-real bench-transfer bench-cameras bench-checkpoints bench-speed bench-scale fuzz clean

# With this Python and machine every file but torch's is checked against its hash, the build's too.
LOCKED := $(shell $(PYTHON) -c 'import platform, sys; \
	print("yes" if sys.version_info[:2] == (3, 11) and (sys.platform, platform.machine()) == ("linux", "x86_64") else "")')
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

$(INSTALLED): pyproject.toml constraints.txt requirements.lock
	$(PYTHON) -m venv $(VENV)
	$(if $(LOCKED),$(PIP) --require-hashes --no-deps -r requirements.lock)
	$(PIP) -c constraints.txt $(if $(LOCKED),--no-build-isolation) -e ".[dev]"
	touch $@

# Tests that drive a browser need the system's Chromium, and skip without it; `apt-get install chromium` brings it.
# Each of the two processes begins with a part in one piece: what the tests of a module share is made once.
test: $(INSTALLED)  ## install and run every test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)  ## the documentation, into site/
	$(BIN)/mkdocs build --strict

demo: $(INSTALLED)  ## from nothing to a published model: simulate, convert, fine-tune, register, push, download, evaluate
	rm -rf $(DEMO)
	$(BIN)/veriserum simulate $(DEMO)/archive --trials 120 --frames-per-trial 6 --size 800
	$(BIN)/veriserum audit $(DEMO)/archive
	$(BIN)/veriserum convert $(DEMO)/archive $(DEMO)/dataset
	$(BIN)/veriserum show $(DEMO)/dataset --output $(DEMO)/frame.png
	$(BIN)/accelerate launch training/train.py --config training/configs/demo.yaml --model veriserum-pose-small \
		--dataset $(DEMO)/dataset --output_dir $(DEMO)/run --max_train_steps 60 --eval_steps 30 --learning_rate 3e-4
	$(BIN)/python training/evaluate.py --model $(DEMO)/run --dataset $(DEMO)/dataset --output_dir $(DEMO)/run
	# Exit status 3: done, but some frames have not converged, as their verdicts say.
	$(BIN)/veriserum register $(DEMO)/dataset --split test --start model --model $(DEMO)/run \
		--output $(DEMO)/registered.parquet || [ $$? -eq 3 ]
	$(BIN)/veriserum report $(DEMO)/dataset --model $(DEMO)/run --poses $(DEMO)/registered.parquet \
		--labels $(DEMO)/archive/truth.parquet --output $(DEMO)/report.html
	$(BIN)/python -m tests.hub.demo $(DEMO)

space:  ## the files of a Space of the hub, into space-build/: make space [MODEL=RUN]
	rm -rf $(SPACE)
	mkdir -p $(SPACE)/package
	cp -r space/. $(SPACE)
	git archive HEAD pyproject.toml constraints.txt README.md LICENSE veriserum_hf checkpoints \
		training/configs | tar -x -C $(SPACE)/package
	$(if $(MODEL),cp $(addprefix $(MODEL)/,config.json model.safetensors preprocessor_config.json) $(SPACE)/model)

bench: $(INSTALLED)  ## speed, memory and accuracy; writes the tables next to the benchmarks
	$(BIN)/python -m tests.benchmarks.bench_conversion
	$(BIN)/python -m tests.benchmarks.bench_simulation
	$(BIN)/python -m tests.benchmarks.bench_worlds
	$(BIN)/python -m tests.benchmarks.bench_training_input
	$(BIN)/python -m tests.benchmarks.bench_export --model checkpoints/veriserum-pose-small
	$(BIN)/python -m tests.benchmarks.bench_calibration
	$(BIN)/python -m tests.benchmarks.bench_meshes
	$(BIN)/python -m tests.benchmarks.bench_kinematics $(BENCH_DATA)/kinematics
	$(BIN)/python -m tests.benchmarks.bench_report
	$(BIN)/python -m tests.benchmarks.bench_distortion_forms
	$(BIN)/python -m tests.benchmarks.bench_phantoms
	$(BIN)/python -m tests.benchmarks.bench_ends
	$(BIN)/python -m tests.benchmarks.bench_conventions
	$(BIN)/python -m tests.benchmarks.bench_import
	$(BIN)/python -m tests.benchmarks.bench_show
	$(BIN)/python -m tests.benchmarks.bench_cluster
	$(BIN)/python -m tests.benchmarks.bench_match

bench-accuracy: $(INSTALLED)  ## trains every row of the accuracy table, and backbones with and without pretraining; two hours on two idle cores, resumes
	$(BIN)/python -m tests.benchmarks.bench_accuracy $(BENCH_DATA)
	$(BIN)/python -m tests.benchmarks.bench_backbones $(BENCH_DATA)

bench-registration: $(INSTALLED)  ## after bench-accuracy, whose network gives some of its initial poses; 20 minutes
	$(BIN)/python -m tests.benchmarks.bench_registration $(BENCH_DATA)

bench-real: $(INSTALLED)  ## registration of real frames of other laboratories, where they are at hand; resumes
	$(BIN)/python -m tests.benchmarks.bench_real $(BENCH_DATA)

bench-speed: $(INSTALLED)  ## registration against an earlier commit: make bench-speed BEFORE=CHECKOUT; half an hour
	$(BIN)/python -m tests.benchmarks.bench_speed $(BENCH_DATA) $(BEFORE)

bench-scale: $(INSTALLED)  ## cost and memory of every command by the number of frames; resumes; an hour and a half on two cores
	$(BIN)/python -m tests.benchmarks.bench_scale $(BENCH_DATA)/scale

bench-transfer: $(INSTALLED)  ## registration where cameras, meshes, times and images are wrong; resumes; hours on two cores
	$(BIN)/python -m tests.benchmarks.bench_transfer $(BENCH_DATA)

bench-checkpoints: $(INSTALLED)  ## a pose model in other worlds: make bench-checkpoints RUN=RUN; resumes; half an hour of CPU
	$(BIN)/python -m tests.benchmarks.bench_checkpoints $(BENCH_DATA) --model $(RUN)

bench-cameras: $(INSTALLED)  ## cameras refined from implants, of another renderer; resumes; two hours on two cores
	$(BIN)/python -m tests.benchmarks.bench_cameras $(BENCH_DATA)

fuzz: $(INSTALLED)  ## 3,187 damaged inputs; resumes where it was stopped; 45 minutes on two idle cores
	$(BIN)/python -m tests.fuzz --folder $(FUZZ_DATA) --results tests/fuzz/RESULTS.md

clean:
	rm -rf $(VENV) $(DEMO) $(SPACE) $(BENCH_DATA) $(FUZZ_DATA) site
