# make env       make a Python environment in .venv with the pinned requirements and this package
#                TORCH=1.10.2+cu113 or TORCH=FILE.whl: with another build of torch (docs/gpus.md)
# make ops       build the native operator library for this machine
#                SANITIZE=address or SANITIZE=undefined: with that sanitizer
#                CAFFE2=PYTHON or CAFFE2=FOLDER: for the Caffe2 of another Python, or for a Caffe2
#                that was built from source and installed in a folder
#                TARGETS=x86-64-v3: for a level of x86-64 processors
# make demo      train and compare two small models on the built-in data set, write a report
# make demo-photos PHOTOS=FOLDER
#                fine-tune and compare two models on your photographs, write a report. FOLDER is in
#                COCO format; the default is the folder in DETECTRON_EXT_BCCD_ROOT
# make test      run the tests (SANITIZE=...: only the operators' tests, with that sanitizer)
# make sanitize  run the tests that reach every operator with the address and undefined-behaviour sanitizers
#                SANITIZE=thread: with ThreadSanitizer
# make bench     time operators against eager PyTorch, and training steps of RetinaNet R-50-FPN
# make lint      check style, types, and that formatted and generated files are current
# make dist      build a source distribution and a wheel for all x86-64 processors into dist/
# make clean     remove what was built; .venv, dist and output stay

PYTHON := .venv/bin/python
# One process for each processor, and at most four because each takes about 1 GB. A file's tests stay
# together: they share what they have trained. PROCESSES=0 runs all in one process, as pytest alone does.
PROCESSES ?= $(shell n=$$(nproc); echo $$((n < 4 ? n : 4)))
PYTEST_ARGS ?=
SANITIZE ?=
CAFFE2 ?=
TARGETS ?=
TORCH ?=
PHOTOS ?= $(DETECTRON_EXT_BCCD_ROOT)

ifeq ($(SANITIZE),)
TESTS := OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(PROCESSES) --dist loadfile $(PYTEST_ARGS)
else
TESTS := SANITIZE="$(SANITIZE)" tools/test_ops_sanitized.sh tests/ops $(PYTEST_ARGS)
endif

.PHONY: env ops demo demo-photos test sanitize bench lint dist clean

env: .venv/.complete

.venv/.complete: requirements.txt requirements-no-deps.txt pyproject.toml setup.py tools/make_env.sh
	TORCH="$(TORCH)" sh tools/make_env.sh .venv
	touch $@

# TORCH may name another build than that of a complete environment.
ifneq ($(TORCH),)
.PHONY: .venv/.complete
endif

ops: env
	$(PYTHON) tools/build_ops.py $(if $(SANITIZE),--sanitize $(SANITIZE)) \
		$(if $(CAFFE2),--caffe2 $(CAFFE2)) $(if $(TARGETS),--targets $(TARGETS))

demo: ops
	$(PYTHON) tools/demo.py

demo-photos: ops
	$(PYTHON) tools/demo.py --photographs "$(PHOTOS)"

test: $(if $(SANITIZE),env,ops)
	$(TESTS)

sanitize: env
	tools/test_ops_sanitized.sh

bench: ops
	$(PYTHON) tools/benchmark.py ops
	$(PYTHON) tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml FPN.COARSEST_STRIDE 32
	$(PYTHON) tools/benchmark.py step --cfg configs/libra_retinanet_R-50-FPN.yaml FPN.COARSEST_STRIDE 32

lint: env
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check detectron_ext tests tools setup.py
	$(PYTHON) -m mypy
	$(PYTHON) tools/format_ops.py --check
	$(PYTHON) tools/document_config.py --check

dist: env
	$(PYTHON) tools/build_dist.py $(if $(TARGETS),--targets $(TARGETS))

clean:
	rm -rf build detectron_ext/ops/lib .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
