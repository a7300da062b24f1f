"""The beginning of a text that is so many samples of calibration tokens exactly, so that all programs calibrate on the same.

python cut_text.py MODEL TEXT OUTPUT --samples 64 --seq-len 512
"""

import argparse

from transformers import AutoTokenizer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("text")
    parser.add_argument("output")
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--seq-len", type=int, default=512)
    a = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(a.model)
    ids = tokenizer(open(a.text).read(), add_special_tokens=False)["input_ids"]
    # every sample begins with the token for the beginning
    ids = ids[: a.samples * (a.seq_len - 1)]
    text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    if tokenizer(text, add_special_tokens=False)["input_ids"] != ids:
        raise SystemExit(f"{a.text}: no text has exactly its first {len(ids)} tokens; take another number of samples")
    with open(a.output, "w") as output:
        output.write(text)


main()
