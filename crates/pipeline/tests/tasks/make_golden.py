"""Writes golden.json: what lm-evaluation-harness finds for models/tiny on the items beside this file.

    HF_HUB_OFFLINE=1 HF_DATASETS_OFFLINE=1 python3 make_golden.py ../../../../models/tiny > golden.json

Needs lm_eval (0.4.13), torch and transformers. The tasks are the harness's own YAML files, functions included; only where the
items come from is changed. The model runs in float32. Few-shot examples are the first others of the same file
(`sampler: first_n`).
"""

import json
import os
import sys

import lm_eval
import torch
from lm_eval.api.task import ConfigurableTask
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks._yaml_loader import load_yaml

HERE = os.path.dirname(os.path.abspath(__file__))
TASKS = os.path.join(os.path.dirname(lm_eval.__file__), "tasks")
SCORES = ("acc", "acc_norm", "acc_stderr", "f1", "exact_match")

PLAIN = {
    "output_type": "multiple_choice",
    "doc_to_text": "context",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")
    ],
}

# the harness compares the answer with the space in front of it, unless a filter takes it away
GENERATION = {
    "output_type": "generate_until",
    "doc_to_text": "prompt",
    "doc_to_target": lambda item: item["answer"],
    "generation_kwargs": {"until": ["\n", ","], "max_gen_toks": 24, "do_sample": False},
    "filter_list": [{"name": "none", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

# layout, the harness's file, examples before each item
RUNS = [
    ("generation", None, 0),
    ("generation", None, 1),
    ("plain", None, 0),
    ("plain", None, 1),
    ("arc", "arc/arc_easy.yaml", 0),
    ("arc", "arc/arc_easy.yaml", 2),
    ("hellaswag", "hellaswag/hellaswag.yaml", 0),
    ("hellaswag", "hellaswag/hellaswag.yaml", 1),
    ("piqa", "piqa/piqa.yaml", 0),
    ("winogrande", "winogrande/default.yaml", 0),
    ("winogrande", "winogrande/default.yaml", 2),
    ("mmlu", "mmlu/default/mmlu_{subject}.yaml", 0),
    ("mmlu", "mmlu/default/mmlu_{subject}.yaml", 2),
    ("boolq", "super_glue/boolq/default.yaml", 0),
    ("kobest_boolq", "kobest/kobest_boolq.yaml", 0),
    ("kobest_boolq", "kobest/kobest_boolq.yaml", 1),
    ("kobest_copa", "kobest/kobest_copa.yaml", 0),
    ("kobest_copa", "kobest/kobest_copa.yaml", 1),
    ("kobest_wic", "kobest/kobest_wic.yaml", 0),
    ("kobest_hellaswag", "kobest/kobest_hellaswag.yaml", 0),
    ("kobest_sentineg", "kobest/kobest_sentineg.yaml", 0),
]


def load(name, file, shots, subject=None):
    own = GENERATION if name == "generation" else PLAIN
    config = dict(own) if file is None else dict(load_yaml(os.path.join(TASKS, file.format(subject=subject))))
    for key in ("tag", "group", "dataset_name", "training_split", "validation_split", "task_alias"):
        config.pop(key, None)
    config.update(
        task=name,
        dataset_path="json",
        dataset_kwargs={"data_files": {"test": os.path.join(HERE, name + ".jsonl")}},
        test_split="test",
        fewshot_split="test",
        fewshot_config={"sampler": "first_n"},
        num_fewshot=shots,
    )
    return ConfigurableTask(config=config)


def run(model, name, file, shots):
    subjects = [None]
    if name == "mmlu":
        with open(os.path.join(HERE, "mmlu.jsonl")) as items:
            subjects = [json.loads(line)["subject"] for line in items]
    # the description is the task's in the harness and the item's here: each item by the task of its subject
    items, scores = [], {}
    for at, subject in enumerate(subjects):
        task = load(name, file, shots, subject)
        result = lm_eval.simple_evaluate(model=model, tasks=[task], bootstrap_iters=1, num_fewshot=shots)
        samples = sorted(result["samples"][name], key=lambda sample: sample["doc_id"])
        samples = samples if name != "mmlu" else samples[at : at + 1]
        for sample in samples:
            if name == "generation":
                items.append({"text": sample["resps"][0][0], "exact_match": float(sample["exact_match"])})
                continue
            item = {"log_likelihoods": [float(answer[0]) for answer in sample["filtered_resps"]]}
            item |= {score: sample[score] for score in ("acc", "acc_norm") if score in sample}
            items.append(item)
        scores = {s: result["results"][name][f"{s},none"] for s in SCORES if f"{s},none" in result["results"][name]}
    if name == "mmlu":
        scores = {"acc": sum(item["acc"] for item in items) / len(items)}
    return {"layout": name, "fewshot": shots, "items": items, **scores}


model = HFLM(pretrained=sys.argv[1], dtype=torch.float32, device="cpu", batch_size=1)
print(json.dumps([run(model, *arguments) for arguments in RUNS], separators=(",", ":")))
