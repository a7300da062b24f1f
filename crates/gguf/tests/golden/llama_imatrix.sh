#!/usr/bin/env bash
# Importance matrices of the bundled model by llama-imatrix, in both of its formats:
#
#   llama_imatrix.sh DIRECTORY_OF_LLAMA_CPP_TOOLS SLMC
#
# Writes llama_imatrix.gguf and llama_imatrix.dat beside this script. The text is the first 6000 bytes of the bundled
# English, in chunks of 64 tokens; the tests cut it alike.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../../../..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"$2" convert "$root/models/tiny" --dtype f16 --output model.gguf
head -c 6000 "$root/calibration/data/english.txt" >english.txt
for format in gguf dat; do
    "$1/llama-imatrix" -m model.gguf -f english.txt -c 64 -b 64 -t 1 --no-ppl --output-format $format -o imatrix.$format
    cp imatrix.$format "$here/llama_imatrix.$format"
done
