#!/usr/bin/env bash
# Renew constraints-hashes.txt from constraints.txt; needs uv. Every file of a version is in it, for any platform.
# Left out is what comes first and by itself (scripts/setup.sh): torch, of whatever build, and its CUDA libraries.
set -euo pipefail
cd "$(dirname "$0")/.."
left_out=(torch nvidia-{cublas,cuda-cupti,cuda-nvrtc,cuda-runtime,cudnn-cu13,cufft,cufile,curand,cusolver,cusparse}
  nvidia-{cusparselt-cu13,nccl-cu13,nvjitlink,nvshmem-cu13,nvtx} cuda-{bindings,pathfinder,toolkit})
{
  sed -n '/^\[build-system\]/,/^$/s/^requires = \["\(.*\)"\]$/\1/p' pyproject.toml
  echo editables  # what an editable install by hatchling needs beside it
} | uv pip compile pyproject.toml - --all-extras -c constraints.txt --generate-hashes --no-build -q \
  --python-version 3.11 --python-platform x86_64-unknown-linux-gnu --no-emit-index-url --no-annotate \
  --custom-compile-command scripts/hashes.sh "${left_out[@]/#/--no-emit-package=}" -o constraints-hashes.txt
