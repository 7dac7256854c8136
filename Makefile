# Everything that a fresh machine lacks is fetched into the project's own cache directory: see tools/.
DEPLOYS ?= 20
RATE ?= 300
N ?= 10000
PYTHON := .venv/bin/python
# Without bytecode each start of the tool compiles all of itself and its libraries: three times as slow as users have it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup check format unit test demo slo-drill soak canaries crash audit-drill simulate verdicts bench clean \
	distclean

help:
	@echo "make setup   the Python environment in .venv, with pinned packages"
	@echo "make test    all checks and all tests, on a real Docker Engine and nginx"
	@echo "make unit    the tests that need no engine"
	@echo "make check   style, types, layers, dependencies"
	@echo "make format  put the code into the project's style"
	@echo "make demo    the example shop, deployed and rolled back under load (three minutes)"
	@echo "make soak    many deploys in a row under load: DEPLOYS=$(DEPLOYS) RATE=$(RATE)"
	@echo "make slo-drill  a release that fails later on, found by its objectives and rolled back under load"
	@echo "make canaries  real canaries under load: healthy ones, and ones that fail, hang, crash or are late"
	@echo "make crash   SIGKILL before and after every effect of every kind of run, under load"
	@echo "make audit-drill  10,000 audit events while PostgreSQL and who delivers to it are killed 30 times each"
	@echo "make simulate  thousands of histories in a simulated world: N=$(N); SEED=... plays one and shows it"
	@echo "make verdicts  how often healthy candidates are rolled back and how soon sick ones are found: a simulation"
	@echo "make bench   ways to switch traffic, compared"
	@echo "make clean   remove what was made here; distclean: also the cache, with engine and images"

setup:
	@tools/setup

check: setup
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/mypy tools/devenv
	.venv/bin/lint-imports --no-cache
	.venv/bin/deptry .

format: setup
	.venv/bin/ruff check --fix
	.venv/bin/ruff format

unit: setup
	$(PYTHON) -m pytest -n 2 tests/unit

# The real tests mostly wait (for health, for grace times), so four run at a time on two cores, a file each, the longest
# first (tests/conftest.py). Those that let a release be judged by its users need answers in time, so two run at a time.
# Those that put a load on the router that two cores can just carry run one after the other, with nothing beside them.
test: check
	$(PYTHON) -m pytest -n 2 tests/unit tests/simulation
	tools/with-engine $(PYTHON) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 15 -m "not few and not alone" tests/real
	tools/with-engine $(PYTHON) -m pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 15 -m few tests/real
	tools/with-engine $(PYTHON) -m pytest --durations 15 -m alone tests/real

demo: setup
	tools/with-engine $(PYTHON) -m tests.load.demo

slo-drill: setup
	tools/with-engine $(PYTHON) -m tests.load.slo_drill

soak: setup
	tools/with-engine $(PYTHON) -m tests.load.soak --deploys $(DEPLOYS) --rate $(RATE)

canaries: setup
	tools/with-engine $(PYTHON) -m tests.load.candidates

crash: setup
	tools/with-engine $(PYTHON) -m tests.crash

audit-drill: setup
	$(PYTHON) -m tests.real.audit_drill

simulate: setup
	$(PYTHON) -m tests.simulation $(if $(SEED),--seed $(SEED) --verbose,--seeds $(N) --processes 2 --mutations)

verdicts: setup
	$(PYTHON) -m benchmarks.verdicts

bench: setup
	tools/with-engine $(PYTHON) -m benchmarks.switching

clean:
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	tools/engine remove
