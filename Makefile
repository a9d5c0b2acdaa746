# Embedserve. `make serve` and `make test` need Python 3.11 or later, make and a package index, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
WORKERS ?= 2

# The tests of a file stay together: they share its servers.
PYTEST := $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
SHAPE ?= ramp
.PHONY: help serve test test-clients chart-test chart-docs pod-test gpu-test lint types format docs image image-test matrix bench bench-peers load soak fuzz evaluate lock audit sbom dist kustomize clean

help:  ## show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

serve: $(VENV)/.installed  ## serve all-MiniLM-L6-v2 on 127.0.0.1:8080 (ARGS="--port 9000 MODEL" for more)
	@$(BIN)/embedserve serve $(ARGS)

test: $(VENV)/.installed-test  ## run the whole test suite (ARGS="-k chunking" for a part, WORKERS=4 on larger machines)
	@$(PYTEST) $(ARGS)

test-clients: $(VENV)/.installed-test  ## every SDK, locust and family of models, against a real server; makes environments for them in .venv-clients
	@$(PYTEST) --no-loadscope-reorder -m heavy tests --ignore=tests/e2e --ignore=tests/faults --ignore=tests/service $(ARGS)

pod-test: $(VENV)/.installed-test  ## the chart's pods with the real image under podman: probes, updates, drains, limits (Debian, root: it installs its tools)
	@$(call debian,$(IMAGE_TOOLS) ip)
	@$(BIN)/python -m pytest -m image tests/pods $(ARGS)

gpu-test: $(VENV)-gpu/.installed  ## what only a GPU shows: kernels' vectors, batches, memory, tuning, ends; NVIDIA's driver, an environment in .venv-gpu
	@$(VENV)-gpu/bin/python -m pytest -m gpu tests/gpu $(ARGS)

chart-test: $(VENV)/.installed-test  ## the Helm chart by Helm 3 and 4: every example on eleven versions of Kubernetes, schemas, hardening, bad values
	@$(PYTEST) -m "heavy or not heavy" tests/chart $(ARGS)

chart-docs: $(VENV)/.installed-test  ## write the chart's table of values anew, into helm/embedserve/README.md; needs npm
	@$(BIN)/python -m tests.chart.readme

lint: $(VENV)/.installed-test  ## style, and that imports go downward only
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports

types: $(VENV)/.installed-test  ## mypy, strict
	@$(BIN)/mypy

format: $(VENV)/.installed-test  ## reformat the code
	@$(BIN)/ruff check --fix . && $(BIN)/ruff format .

docs: $(VENV)/.installed  ## write the README's table of settings anew, and what the chart's schema says of them
	@$(BIN)/python -m service.settings README.md
	@$(BIN)/python -m deploy.chart_schema

matrix: $(VENV)/.installed-test  ## every family against sentence-transformers, into docs/MODELS.md (ARGS="bert mpnet" for a look)
	@$(BIN)/python -m tests.parity.families $(ARGS)

bench: $(VENV)/.installed  ## every figure beside its target and the raw runtime's, a plot; five minutes
	@$(BIN)/python -m loadtest.bench $(ARGS)

bench-peers: $(VENV)/.installed  ## the same loads against other servers, each in an environment in .venv-peers
	@$(BIN)/python -m loadtest.peers $(ARGS)

load: $(VENV)/.installed $(VENV)-load/.installed  ## users for SHAPE=ramp, spike or soak (locust), with an HTML report
	@$(BIN)/python -m loadtest.load --locust $(VENV)-load/bin/locust --shape $(SHAPE) $(ARGS)

soak: $(VENV)/.installed $(VENV)-load/.installed  ## half an hour of everyone a server may meet: does anything grow?
	@$(BIN)/python -m loadtest.endurance --locust $(VENV)-load/bin/locust $(ARGS)

SECONDS ?= 300
fuzz: $(VENV)/.installed-test  ## spoilt requests to every route of a real server for SECONDS=300 (ARGS="--seed 1" for others)
	@$(BIN)/python -m tests.hostile.fuzz --seconds $(SECONDS) $(ARGS)

evaluate: $(VENV)/.installed-evaluate  ## what finds passages of long documents, into docs/ (ARGS=--quick for a look)
	@$(BIN)/python -m loadtest.long_documents $(ARGS)

# Whatever builds images here; docker counts where its engine answers.
ENGINE ?= $(shell docker info >/dev/null 2>&1 && echo docker || command -v podman || command -v buildah)
IMAGE ?= embedserve
TARGET ?= cpu
image:  ## build the container image (TARGET=gpu, IMAGE=name:tag, ARGS="--build-arg MODEL=all-MiniLM-L6-v2")
	@test -n "$(ENGINE)" || { echo "embedserve: images need docker (running), podman or buildah" >&2; exit 1; }
	BUILDAH_FORMAT=docker BUILDAH_LAYERS=true $(ENGINE) build --target $(TARGET) --tag $(IMAGE) \
		--label org.opencontainers.image.version="$$(sed -n 's/^__version__ = "\(.*\)"/\1/p' service/__init__.py)" \
		--label org.opencontainers.image.revision="$$(git rev-parse HEAD 2>/dev/null)" \
		--label org.opencontainers.image.source="$$(git remote get-url origin 2>/dev/null | sed -n 's#^https://\([^/]*@\)\{0,1\}#https://#p')" \
		--build-arg SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct 2>/dev/null)" $(ARGS) .

# A make function: what a target needs of Debian's, by the names of programs (ip is of iproute2).
debian = which $(1) >/dev/null || { echo "embedserve: installing $(1:ip=iproute2)"; \
	apt-get -q update && apt-get -q -y install --no-install-recommends $(1:ip=iproute2); }

IMAGE_TOOLS := buildah podman runc debootstrap
image-test: $(VENV)/.installed-test  ## build the image on a stand-in base and run it, without a registry (Debian, root: it installs its tools)
	@$(call debian,$(IMAGE_TOOLS))
	@$(BIN)/python -m pytest -m image tests/image $(ARGS)
	@$(BIN)/python -m deploy.image.layers

LOCKS := deploy/requirements
COMPILE := $(BIN)/python -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command "make lock"

lock: $(VENV)/.installed-test  ## pin every package with hashes, into deploy/requirements (ARGS=--upgrade for newer ones)
	@$(COMPILE) $(ARGS) --extra cpu --extra otel pyproject.toml --output-file $(LOCKS)/server-cpu.txt
	@$(COMPILE) $(ARGS) --extra gpu --extra otel pyproject.toml --output-file $(LOCKS)/server-gpu.txt
	@$(COMPILE) $(ARGS) --extra test pyproject.toml --output-file $(LOCKS)/test.txt
	@$(COMPILE) $(ARGS) $(LOCKS)/audit.in --output-file $(LOCKS)/audit.txt
	@$(COMPILE) $(ARGS) $(LOCKS)/loadtest.in --output-file $(LOCKS)/loadtest.txt
	@$(COMPILE) $(ARGS) $(LOCKS)/build.in --output-file $(LOCKS)/build.txt

audit: $(VENV)/.installed $(VENV)-audit/.installed  ## what is known against the locked packages (pip-audit); fails as well if nobody could be asked, and says so
	@$(BIN)/python -m deploy.audit $(VENV)-audit/bin/pip-audit $(LOCKS)/server-cpu.txt $(LOCKS)/server-gpu.txt

sbom: $(VENV)-audit/.installed  ## the bill of materials of the CPU server, dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	@$(VENV)-audit/bin/cyclonedx-py requirements $(LOCKS)/server-cpu.txt --pyproject pyproject.toml --output-reproducible -o dist/sbom.cdx.json

dist: $(VENV)/.installed $(VENV)-dist/.installed  ## the sdist, and the wheel that is built from it, into dist/; looked at by twine
	@$(BIN)/python -m deploy.release --check
	@$(VENV)-dist/bin/python -m build --no-isolation --outdir dist .
	@$(VENV)-dist/bin/twine check --strict dist/*.whl dist/*.tar.gz

kustomize: $(VENV)/.installed-test  ## write deploy/kustomize/base anew from the chart
	@$(BIN)/python -m tests.deploy.kustomize

clean:  ## remove the virtual environments and what the tools left behind
	rm -rf $(VENV) $(VENV)-load $(VENV)-peers $(VENV)-clients $(VENV)-audit $(VENV)-dist $(VENV)-gpu build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@echo "embedserve: making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12 serve")'
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml
	@echo "embedserve: installing"
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on -e '.[cpu]' | grep -v '^Requirement already satisfied' || true
	@$(BIN)/python -c 'import service.cli, onnxruntime'
	@touch $@

# uv takes a tenth of pip's time, but reads no pip.conf: where it fails, pip has the last word.
$(VENV)/.installed-test: $(VENV)/.installed
	@echo "embedserve: installing what the tests need"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet uv
	@$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[test]' || \
		$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[test]'
	@touch $@

$(VENV)/.installed-evaluate: $(VENV)/.installed
	@echo "embedserve: installing the texts of the evaluation"
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -e '.[cpu,evaluate]'
	@touch $@

# locust brings a web server of its own, which the server's environment need not have.
$(VENV)-load/.installed: pyproject.toml
	@echo "embedserve: installing locust in $(VENV)-load"
	@$(PYTHON) -m venv $(VENV)-load
	@$(VENV)-load/bin/python -m pip install --disable-pip-version-check --quiet -e '.[loadtest]'
	@touch $@

# Of ONNX Runtime's two wheels an environment can have but one.
$(VENV)-gpu/.installed: pyproject.toml
	@echo "embedserve: installing onnxruntime-gpu and NVIDIA's libraries in $(VENV)-gpu"
	@$(PYTHON) -m venv $(VENV)-gpu
	@$(VENV)-gpu/bin/python -m pip install --disable-pip-version-check --quiet -e '.[gpu]' \
		'pytest>=8.3' 'pytest-timeout>=2.3' 'hypothesis>=6.120' 'httpx>=0.28'
	@touch $@

$(VENV)-audit/.installed: $(LOCKS)/audit.txt
	@echo "embedserve: installing pip-audit and cyclonedx-py in $(VENV)-audit"
	@$(PYTHON) -m venv $(VENV)-audit
	@$(VENV)-audit/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $(LOCKS)/audit.txt
	@touch $@

# hatchling as the image's wheel has it: another one writes another wheel.
$(VENV)-dist/.installed: $(LOCKS)/build.txt
	@echo "embedserve: installing hatchling, build and twine in $(VENV)-dist"
	@$(PYTHON) -m venv $(VENV)-dist
	@$(VENV)-dist/bin/python -m pip install --disable-pip-version-check --quiet --require-hashes -r $(LOCKS)/build.txt
	@$(VENV)-dist/bin/python -m pip install --disable-pip-version-check --quiet 'build>=1.2' 'twine>=6.1'
	@touch $@
