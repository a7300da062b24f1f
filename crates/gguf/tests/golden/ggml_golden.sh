#!/bin/sh
# Makes the golden files beside this script anew: ./ggml_golden.sh LLAMA_CPP_SOURCE LLAMA_CPP_BUILD
# LLAMA_CPP_BUILD is a static build (cmake -DBUILD_SHARED_LIBS=OFF). The files here come from llama.cpp as
# vendored by llama-cpp-python 0.3.36, built with GCC 12 for a CPU with AVX-512.
set -eu
source=$1 build=$2
here=$(cd "$(dirname "$0")" && pwd)
program=$(mktemp)
trap 'rm -f "$program"' EXIT
mkdir -p "$here/blocks" "$here/activations"
cc -O2 -Wall -Wextra -I"$source/ggml/include" "$here/ggml_golden.c" -o "$program" \
    "$build/ggml/src/libggml-cpu.a" "$build/ggml/src/libggml-base.a" -lstdc++ -fopenmp -lpthread -ldl -lm
"$program" "$here/../../../../models/tiny/model.safetensors" "$here"
