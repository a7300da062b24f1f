#!/usr/bin/env python3
"""Greedy continuations of the bundled model by transformers in float32.

usage: make_greedy.py MODEL_DIR > greedy.json

Also records by how much the chosen logit led at its closest: continuations whose lead is within the rounding of another
implementation would be no use as golden values.  Written with torch 2.10.0 and transformers 5.17.0.
"""
import json, sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["Once upon a time there was a little girl", "The wool market has ended the year strongly, with"]
NEW_TOKENS = 40

model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32).eval()
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
cases = []
for prompt in PROMPTS:
    inputs = tokenizer(prompt, return_tensors="pt")
    out = model.generate(**inputs, do_sample=False, max_new_tokens=NEW_TOKENS, return_dict_in_generate=True,
                         output_logits=True, pad_token_id=0)
    ids = inputs["input_ids"][0].tolist()
    generated = out.sequences[0, len(ids):].tolist()
    lead = min(float(l[0].topk(2).values.diff().abs()) for l in out.logits)
    text = tokenizer.decode(generated, clean_up_tokenization_spaces=False)
    cases.append({"prompt": prompt, "prompt_ids": ids, "ids": generated, "text": text, "least_lead": round(lead, 5)})
json.dump(cases, sys.stdout, indent=1, ensure_ascii=False)
print()
