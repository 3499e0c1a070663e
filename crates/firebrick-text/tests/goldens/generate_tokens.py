"""Ids by transformers' tokenizers, of small vocabularies that are made here, and of MiniLM's from the cache folder."""

import json
import os
import pathlib
import sys

import tokenizers
import transformers

here = pathlib.Path(__file__).parent
words = """the a of and to in is it that was on with for not this but had from they his her one all would there what so out up them
 will about who make can like time no just him know take into year your good some could see other than then now look only come its
 over think also back after use two how our work first well way even new want because any these give day most us""".split()
sentence = "the quick brown fox jumps over the lazy dog, and then it doesn't. "
texts = [
    "", " ", "Hello, world!", "The QUICK brown fox didn't jump; it's 12.5 metres.", "naïve café — Ünïcödé, Ångström & œuvre",
    "e\u0301 combines, \u00e9 does not", "漢字かな交じり文 and 한국어", "emoji: 😀👩‍🚀🇨🇭 done", "tabs\tand\nnew lines \r\n and\u00a0spaces",
    "control\u0000\u0007\u200b characters\ufffd", "a" * 120, "[CLS] written out [SEP] and <|endoftext|> too", "##ing ## # and it's we'll I'd",
    "ﬁne ½ Ⅷ İstanbul ß ſ", "don't stop . . . now ! really ?", "العربية עברית हिन्दी ไทย",
]
pairs = [["what is it", "it is a fox, and then some other words too"], ["", "the dog"], [sentence, sentence]]
long = {"text": sentence, "times": 2000}


def checksum(ids):
    return sum(id * (place % 97 + 1) for place, id in enumerate(ids))


def of(tokenizer):
    cases = []
    for text in texts:
        ids = tokenizer(text)["input_ids"]
        cases.append({
            "text": text, "ids": ids, "bare": tokenizer(text, add_special_tokens=False)["input_ids"],
            "cut": tokenizer(text, truncation=True, max_length=9)["input_ids"],
            "decoded": tokenizer.decode(ids, skip_special_tokens=True),
        })
    paired = []
    for first, second in pairs:
        whole, cut = tokenizer(first, second, return_token_type_ids=True), tokenizer(first, second, truncation=True, max_length=10)
        paired.append({"texts": [first, second], "ids": whole["input_ids"], "types": whole["token_type_ids"], "cut": cut["input_ids"]})
    ids = tokenizer(long["text"] * long["times"])["input_ids"]
    return {
        "texts": cases, "pairs": paired, "vocabulary": len(tokenizer),
        "long": long | {"length": len(ids), "checksum": checksum(ids), "cut": tokenizer(long["text"] * long["times"], truncation=True, max_length=16)["input_ids"]},
    }


def batch(tokenizer, chosen, **settings):
    padded = tokenizer(chosen, padding=True, truncation=True, max_length=12, return_token_type_ids=True)
    return {"texts": chosen, "ids": padded["input_ids"], "mask": padded["attention_mask"], "types": padded["token_type_ids"]}


def write(name, content):
    golden = {
        "made_by": f"cargo xtask golden generate_tokens",
        "versions": {"transformers": transformers.__version__, "tokenizers": tokenizers.__version__},
    } | content
    path = here / name
    path.write_text(json.dumps(golden, ensure_ascii=False) + "\n", encoding="utf-8")
    assert path.stat().st_size <= 50_000, (name, path.stat().st_size)


special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
letters = "abcdefghijklmnopqrstuvwxyz"
characters = sorted(set(letters + "0123456789.,;!?'-—&#[]<>|:漢字文œß") | set("かな"))
pieces = ["##" + letter for letter in letters + "0123456789"] + ["##ing", "##ed", "##er", "##ly", "##ick", "##own", "##ump", "##stop"]
for folder, extra, configuration in [
    ("word_piece", ["hello", "world", "quick", "cafe", "uni"], {"tokenizer_class": "BertTokenizer"}),
    ("word_piece_cased", ["Hello", "The", "QU", "##ICK", "é", "café", "Ü"], {"tokenizer_class": "BertTokenizer", "do_lower_case": False}),
]:
    target = here / folder
    target.mkdir(exist_ok=True)
    vocabulary = list(dict.fromkeys(special + characters + pieces + words + extra))
    (target / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    (target / "tokenizer_config.json").write_text(json.dumps(configuration) + "\n")
    tokenizer = transformers.BertTokenizer.from_pretrained(target)
    assert len(tokenizer) == len(vocabulary), (len(tokenizer), len(vocabulary))
    write(f"{folder}.json", of(tokenizer) | {"batch": batch(tokenizer, [texts[2], "", texts[3]])})

target = here / "byte_pair"
target.mkdir(exist_ok=True)
trained = tokenizers.ByteLevelBPETokenizer()
trained.train_from_iterator([" ".join(words) + " " + sentence] * 3, vocab_size=256 + 120, min_frequency=2, show_progress=False)
trained.add_special_tokens(["<|endoftext|>"])
trained.save_model(str(target))
# GPT-2's vocabulary has the end of a text as its last token.
vocabulary = json.loads((target / "vocab.json").read_text(encoding="utf-8"))
vocabulary["<|endoftext|>"] = len(vocabulary)
(target / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False) + "\n", encoding="utf-8")
tokenizer = transformers.GPT2Tokenizer.from_pretrained(target)
tokenizer.pad_token = tokenizer.eos_token
assert len(tokenizer) == len(vocabulary)
write("byte_pair.json", of(tokenizer) | {"batch": batch(tokenizer, [texts[2], "", texts[3]])})

cache = os.environ.get("FIREBRICK_CACHE") or pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "firebrick"
minilm = pathlib.Path(cache) / "weights" / "all-MiniLM-L6-v2" / "tokenizer.json"
if not minilm.is_file():
    sys.exit(f"{minilm} is not there: fetch it with `cargo xtask assets --fetch`")
tokenizer = transformers.PreTrainedTokenizerFast(
    tokenizer_file=str(minilm), pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]",
    model_input_names=["input_ids", "token_type_ids", "attention_mask"])
tokenizer.backend_tokenizer.no_truncation()
tokenizer.backend_tokenizer.no_padding()
write("minilm.json", of(tokenizer) | {"batch": batch(tokenizer, [texts[2], "", texts[3]])})
