"""Documents of different lengths, each alone through PyTorch and transformers in float32: packed.json.

    python make_packed.py        (torch, transformers)

Teacher and student are those of make_training.py. The loss is the mean over all tokens that have one before them in their document;
of its gradient by every weight the norm and 16 values, evenly spaced.
"""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent
ROOT = HERE.parents[3]
LENGTHS, TEMPERATURE, ALPHA = [20, 9, 15, 30, 14, 48], 2.0, 0.1

model = lambda: AutoModelForCausalLM.from_pretrained(ROOT / "models/tiny", dtype=torch.float32, attn_implementation="eager")
teacher, student = model().eval(), model()
student.model.layers = torch.nn.ModuleList([student.model.layers[0], student.model.layers[3]])
text = next((ROOT / "calibration/data").glob("english*")).read_text()[20000:30000]
ids = AutoTokenizer.from_pretrained(ROOT / "models/tiny")(text, add_special_tokens=False)["input_ids"]
documents = [ids[sum(LENGTHS[:n]) :][:length] for n, length in enumerate(LENGTHS)]

total = sum(LENGTHS) - len(LENGTHS)
loss = 0.0
for document in documents:
    tokens = torch.tensor([document])
    with torch.no_grad():
        p = F.log_softmax(teacher(tokens).logits[0, :-1] / TEMPERATURE, -1)
    logits = student(tokens).logits[0, :-1]
    q = F.log_softmax(logits / TEMPERATURE, -1)
    soft = TEMPERATURE**2 * F.kl_div(q, p, reduction="sum", log_target=True)
    hard = F.cross_entropy(logits, tokens[0, 1:], reduction="sum")
    part = ((1 - ALPHA) * soft + ALPHA * hard) / total
    part.backward()
    loss += part.item()

gradients = {}
for name, p in student.named_parameters():
    flat = p.grad.flatten()
    at = [i * (flat.numel() - 1) // 15 for i in range(16)]
    gradients[name] = {"norm": flat.double().norm().item(), "values": [flat[i].item() for i in at]}
(HERE / "packed.json").write_text(json.dumps({"documents": documents, "loss": loss, "gradients": gradients}) + "\n")
print(loss)
