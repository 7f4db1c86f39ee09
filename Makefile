# make env    a Python environment in .venv with the pinned requirements and this package
# make ops    the native operator library (SANITIZE=address or undefined: with that sanitizer;
#             CAFFE2=PYTHON: for the Caffe2 of that Python; CAFFE2=FOLDER: for one installed there)
# make demo   train and compare two small models on the built-in data set, write a report
# make test   run the tests (SANITIZE=...: the operators' tests, against such a library)
# make bench  time operators against eager PyTorch, and training steps of RetinaNet R-50-FPN
# make lint   check style and types
# make clean  remove what was built; .venv and output stay

PYTHON := .venv/bin/python
PYTEST_ARGS ?=
SANITIZE ?=
CAFFE2 ?=

ifeq ($(SANITIZE),)
TESTS := $(PYTHON) -m pytest $(PYTEST_ARGS)
else
# The sanitizer's runtime has to be in the process before the library that needs it.
runtime = $(shell $(CXX) -print-file-name=$(1))
PRELOAD := $(if $(filter address,$(SANITIZE)),$(call runtime,libasan.so),$(call runtime,libubsan.so))
TESTS := LD_PRELOAD="$(PRELOAD) $(call runtime,libstdc++.so)" ASAN_OPTIONS=detect_leaks=0 \
	UBSAN_OPTIONS=print_stacktrace=1 $(PYTHON) -m pytest tests/ops $(PYTEST_ARGS)
endif

.PHONY: env ops demo test bench lint clean

env: .venv/.complete

.venv/.complete: requirements.txt requirements-no-deps.txt setup.py tools/make_env.sh
	sh tools/make_env.sh .venv
	touch $@

ops: env
	$(PYTHON) tools/build_ops.py $(if $(SANITIZE),--sanitize $(SANITIZE)) $(if $(CAFFE2),--caffe2 $(CAFFE2))

demo: ops
	$(PYTHON) tools/demo.py

test: ops
	$(TESTS)

bench: ops
	$(PYTHON) tools/benchmark.py ops
	$(PYTHON) tools/benchmark.py step --cfg configs/retinanet_R-50-FPN.yaml FPN.COARSEST_STRIDE 32
	$(PYTHON) tools/benchmark.py step --cfg configs/libra_retinanet_R-50-FPN.yaml FPN.COARSEST_STRIDE 32

lint: env
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy

clean:
	rm -rf build detectron_ext/ops/lib .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
