# The commands, each of which brings uv along if it is not installed. Make, because a machine with git usually has it.

.DEFAULT_GOAL := help
.PHONY: help serve test unit test-s3 coverage lint types check crash fuzz benchmarks

help:  ## list these commands
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

serve:  ## serve on http://127.0.0.1:8000, with everything embedded
	scripts/serve

test:  ## all tests, with pictures on the local disk
	scripts/test

unit:  ## the quick tests: no database, no service
	scripts/test tests/unit

test-s3:  ## all tests, with pictures on an S3 server
	scripts/test --store s3

coverage:  ## all tests, and which branches of the product they take
	scripts/coverage

lint:  ## the linter and the formatter, which only looks
	scripts/dev ruff check .
	scripts/dev ruff format --check .

types:  ## the strict type checker
	scripts/dev mypy .

check: lint types unit  ## what every commit must pass

crash:  ## kill the service a hundred times, and count what is lost or left over
	scripts/dev python -m tests.crash --kills 100

fuzz:  ## ten thousand damaged files through the image step
	scripts/dev python -m tests.fuzz --files 10000 --over functions

benchmarks:  ## the image step beside a textbook's: time, memory, likeness
	scripts/dev python -m benchmarks.image_step
