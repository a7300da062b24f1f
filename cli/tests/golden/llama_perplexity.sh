#!/usr/bin/env bash
# What llama-perplexity prints of the bundled model, pruned, beside the original: llama_perplexity.txt.
# usage: llama_perplexity.sh SLMC LLAMA_PERPLEXITY      (llama.cpp of llama-cpp-python 0.3.36)
set -euo pipefail
slmc=$(realpath "$1") perplexity=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$slmc" prune "$here/../../../models/tiny" --method magnitude --sparsity 0.3 --output pruned --no-eval
"$slmc" convert "$here/../../../models/tiny" --dtype f32 --output base.gguf
"$slmc" convert pruned --dtype f32 --output pruned.gguf
scored=(-f "$here/../../../calibration/data/english.txt" -c 128 --chunks 48 -t 2 --kl-divergence-base base.kld)
"$perplexity" -m base.gguf "${scored[@]}"
"$perplexity" -m pruned.gguf "${scored[@]}" --kl-divergence | sed -n '/====== Perplexity/,$p' >"$here/llama_perplexity.txt"
