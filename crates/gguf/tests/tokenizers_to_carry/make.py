#!/usr/bin/env python3
"""Writes small tokenizers with the structure of published ones: gemma.json, phi3.json, unigram.json.

The pieces are learned by SentencePiece from the bundled calibration corpus, with the options that those
models' tokenizers were trained with; the merges are transformers' own reading of a SentencePiece model, and the
normalizers, pre-tokenizers, decoders and added tokens are of the published files' kinds.

usage: make.py [OUT_DIR] [--models]      (OUT_DIR: this script's directory; --models: also NAME.model beside each)
Needs transformers 5, tokenizers and sentencepiece.
"""
import argparse, io, json, pathlib, tempfile
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers.convert_slow_tokenizer import generate_merges

HERE = pathlib.Path(__file__).resolve().parent
DATA = HERE.parents[3] / "calibration/data"
CONTROL, USER_DEFINED = 3, 4


def train(**options):
    """A SentencePiece model of the corpus, serialized."""
    lines = []
    for name in ["english.txt", "korean.txt", "code.txt", "mathematics.txt"]:
        lines += (DATA / name).read_text().replace("\t", "    ").splitlines()
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, num_threads=1, minloglevel=2,
        hard_vocab_limit=False, **options,
    )
    return model.getvalue()


def pieces(model):
    sp = sentencepiece.SentencePieceProcessor(model_proto=model)
    out = []
    for i in range(sp.get_piece_size()):
        kind = CONTROL if sp.is_control(i) else 0
        out.append((sp.id_to_piece(i), sp.get_score(i), kind))
    return out


def bpe(model, user_defined):
    """The model as byte-pair encoding, and the ids of what is matched before it."""
    all_pieces = pieces(model)
    vocab = {piece: i for i, (piece, _, _) in enumerate(all_pieces)}
    merges = generate_merges(vocab, {piece: score for piece, score, _ in all_pieces})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    added = [p for p, _, kind in all_pieces if kind == CONTROL or p in user_defined or p == "<unk>"]
    return tokenizer, added


BYTES = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
BPE = dict(
    model_type="bpe", normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True,
    split_digits=True, allow_whitespace_only_pieces=True, character_coverage=0.98,
)


def gemma():
    """No space in front, spaces in pieces of their own, many tokens that stand for their text."""
    user_defined = ["<mask>", "<2mass>", "[@BOS@]", "<unused0>", "<unused1>", "<start_of_turn>", "<end_of_turn>"]
    user_defined += ["\n" * n for n in range(1, 5)] + ["▁" * n for n in range(2, 9)] + ["<table>", "</table>"]
    model = train(
        **BPE, vocab_size=1400, add_dummy_prefix=False, user_defined_symbols=user_defined,
        pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
    )
    tokenizer, added = bpe(model, user_defined)
    special = {"<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"}
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=t in special) for t in added])
    # one more than the embedding has rows, as in the tokenizer of Gemma 3's text models
    tokenizer.add_tokens([AddedToken("<image_soft_token>", normalized=False, special=True)])
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = BYTES
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos>:0 $A:0", pair="<bos>:0 $A:0 <bos>:1 $B:1", special_tokens=[("<bos>", 2)])
    json_ = json.loads(tokenizer.to_str())
    # the tab stands in the place of the token for its byte
    vocab = json_["model"]["vocab"]
    vocab["\t"] = vocab.pop("<0x09>")
    return model, json_


def phi3():
    """Llama 2's, with tokens behind it that swallow the space after them."""
    model = train(**BPE, vocab_size=1300, add_dummy_prefix=True)
    tokenizer, added = bpe(model, [])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=True) for t in added if t != "</s>"])
    tokenizer.add_tokens([AddedToken("</s>", normalized=False, special=False, rstrip=True)])
    tokenizer.add_tokens([AddedToken("<|endoftext|>", normalized=False, special=True)])
    for name in ["<|assistant|>", "<|placeholder1|>", "<|system|>", "<|end|>", "<|user|>"]:
        tokenizer.add_tokens([AddedToken(name, normalized=False, special=True, rstrip=True)])
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    return model, json.loads(tokenizer.to_str())


def unigram():
    """SentencePiece's unigram language model, text normalized by a compiled table (as of T5, with a few rules)."""
    with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
        rules.write("3000\t20\nA0\t20\n9\t20\nA\t20\nD\t20\nFB01\t66 69\n2026\t2E 2E 2E\n65 301\tE9\n200B\t\nFEFF\t\n")
        rules.flush()
        model = train(model_type="unigram", vocab_size=1000, character_coverage=0.98, normalization_rule_tsv=rules.name,
                      pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>")
    from sentencepiece import sentencepiece_model_pb2
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)
    vocab = [(p, s) for p, s, _ in pieces(model)]
    tokenizer = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=False))
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ["<pad>", "</s>", "<unk>"]])
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap),
        normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), "▁"),
    ])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.decoder = decoders.Metaspace("▁", prepend_scheme="always", split=True)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)])
    return model, json.loads(tokenizer.to_str())


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", type=pathlib.Path, default=HERE)
    parser.add_argument("--models", action="store_true")
    args = parser.parse_args()
    for make in [gemma, phi3, unigram]:
        model, tokenizer = make()
        name = make.__name__
        text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
        (args.out / f"{name}.json").write_text(text + "\n")
        if args.models:
            (args.out / f"{name}.model").write_bytes(model)
        print(name, len(tokenizer["model"]["vocab"]), len(tokenizer["added_tokens"]), len(text))


main()
