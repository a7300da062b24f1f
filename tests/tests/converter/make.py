#!/usr/bin/env python3
"""What llama.cpp's own converter writes for tiny checkpoints: metadata and tensors, as listings that a test reads.

usage: make.py LLAMA_CPP_SRC [CHECKPOINT_DIR...]    (default: every case of crates/model/tests/golden)
       make.py LLAMA_CPP_SRC --vocabularies DIRECTORY

For each checkpoint writes listings/NAME.json: every metadata key with its type and value (of long arrays their
length and SHA-256) and every tensor with its type, shape and the SHA-256 of its bytes, of those computed their values. All checkpoints get the
tokenizer beside this script. With --vocabularies the same of tokenizers alone, those that the ignored test
write_the_tokenizers wrote to DIRECTORY, as listings/vocabularies/NAME.json; SentencePiece models that
crates/gguf/tests/tokenizers_to_carry/make.py --models made go there as NAME/tokenizer.model first.
Needs what convert_hf_to_gguf.py needs: torch, transformers, sentencepiece, gguf, safetensors.
"""
import hashlib, json, pathlib, runpy, shutil, subprocess, sys, tempfile

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parents[2] / "crates/model/tests/golden"
LONG = 8


def convert(src, own_tokenizer, *arguments):
    """Runs the converter, whose way to tell pre-tokenizers apart does not know ours; of a family whose tokenizer is of another
    kind than ours it takes the weights alone."""
    sys.path[:0] = [src, src + "/gguf-py"]
    import conversion
    from conversion.base import TextModel

    TextModel.get_vocab_base_pre = lambda self, tokenizer: "gpt-2"
    original = conversion.get_model_class

    def with_any_tokenizer(*names, **options):
        model = original(*names, **options)
        model.set_vocab = lambda self: self._set_vocab_gpt2()
        return model

    if own_tokenizer == "any":
        import transformers

        conversion.get_model_class = with_any_tokenizer
        # some families' classes would add tokens of their own
        transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained
    sys.argv = ["convert_hf_to_gguf.py", *arguments]
    runpy.run_path(src + "/convert_hf_to_gguf.py", run_name="__main__")


def value(field):
    """Type and value of a metadata field; bytes are those in the file."""
    from gguf import GGUFValueType

    kind = field.types[0].name.lower()
    if field.types[0] != GGUFValueType.ARRAY:
        return {"type": kind, "value": field.contents()}
    contents = field.contents()
    element = field.types[1].name.lower()
    if len(contents) <= LONG:
        return {"type": f"array of {element}", "value": contents}
    if field.types[1] == GGUFValueType.STRING:
        data = b"\0".join(text.encode() for text in contents)
    else:
        data = b"".join(field.parts[i].tobytes() for i in field.data)
    return {"type": f"array of {element}", "len": len(contents), "sha256": hashlib.sha256(data).hexdigest()}


def listing(path):
    from gguf import GGUFReader

    reader = GGUFReader(path)
    metadata = {name: value(field) for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    tensors = {}
    for tensor in reader.tensors:
        entry = {"type": tensor.tensor_type.name.lower(), "shape": [int(n) for n in reversed(tensor.shape)]}
        if tensor.name.startswith("rope_"):  # computed, in the converter's precision
            entry["values"] = tensor.data.astype(float).tolist()
        else:
            entry["sha256"] = hashlib.sha256(tensor.data.tobytes()).hexdigest()
        tensors[tensor.name] = entry
    return {"metadata": dict(sorted(metadata.items())), "tensors": dict(sorted(tensors.items()))}


def compact(listing):
    """JSON with an entry a line."""
    def part(entries):
        lines = [f"  {json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries.items()]
        return "{\n" + ",\n".join(lines) + "\n }"
    return "{\n" + ",\n".join(f' "{name}": {part(entries)}' for name, entries in listing.items()) + "\n}"


def run(src, model, own_tokenizer, *options):
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work) / "theirs.gguf"
        subprocess.run([sys.executable, __file__, "--convert", src, own_tokenizer, str(model), "--outfile", str(out),
                        "--outtype", "f16", *options], check=True)
        return listing(out)


def write(name, listing):
    path = HERE / "listings" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(compact(listing) + "\n")


def main():
    src, *cases = sys.argv[1:]
    sys.path[:0] = [src + "/gguf-py"]
    if cases[:1] == ["--vocabularies"]:
        for model in sorted(pathlib.Path(cases[1]).iterdir()):
            write(f"vocabularies/{model.name}", run(src, model, "own", "--vocab-only"))
        return
    for case in map(pathlib.Path, cases or sorted(p for p in GOLDEN.iterdir() if p.is_dir())):
        with tempfile.TemporaryDirectory() as work:
            model = pathlib.Path(work) / case.name
            model.mkdir()
            for file in ["config.json", "model.safetensors"]:
                shutil.copy(case / file, model / file)
            for file in ["tokenizer.json", "tokenizer_config.json"]:
                shutil.copy(HERE / file, model / file)
            write(case.name, run(src, model, "any"))


if sys.argv[1] == "--convert":
    convert(*sys.argv[2:])
else:
    main()
