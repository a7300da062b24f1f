"""Steps of distillation in PyTorch as a user would write them: forward KL at temperature 2 and a tenth of cross-entropy, AdamW.

    python run_training.py TEACHER STUDENT TEXT --steps 8 --batch-size 8 --seq-len 256 --threads 2 [--bfloat16]

Prints a line of JSON: the seconds and the losses of the steps.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

TEMPERATURE, ALPHA = 2.0, 0.1


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("teacher")
    parser.add_argument("student")
    parser.add_argument("text")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bfloat16", action="store_true")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)
    teacher, student = (AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32) for path in (a.teacher, a.student))
    teacher.eval()
    tokens_per_step = a.batch_size * a.seq_len
    text = open(a.text).read(20 * a.steps * tokens_per_step)
    ids = AutoTokenizer.from_pretrained(a.teacher)(text, add_special_tokens=False)["input_ids"]
    steps = torch.tensor(ids[: a.steps * tokens_per_step]).view(a.steps, a.batch_size, a.seq_len)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.0)
    seconds, losses = [], []
    for tokens in steps:
        started = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=a.bfloat16):
            with torch.no_grad():
                expected = teacher(tokens).logits[:, :-1].float()
            logits = student(tokens).logits[:, :-1].float()
        log_q, log_p = (F.log_softmax(z / TEMPERATURE, -1) for z in (logits, expected))
        soft = TEMPERATURE**2 * F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1).mean()
        hard = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        loss = (1 - ALPHA) * soft + ALPHA * hard
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - started)
    print(json.dumps({"seconds": seconds, "losses": losses}))


if __name__ == "__main__":
    main()
