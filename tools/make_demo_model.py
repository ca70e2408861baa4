"""Train the language model that `bundle demo` carries: run by maintainers, never by users.

    python tools/make_demo_model.py alice29.txt bundler/demo/model

The text is Lewis Carroll, "Alice's Adventures in Wonderland" (1865), the file `testdata/alice29.txt`
of the Debian source package `snappy`. Its `debian/copyright` has the licence of that file as
`public-domain`, and upstream's COPYING says of it: "expired copyrights and are in the public
domain". To get it, with a `deb-src` line in the apt sources:

    apt-get source --download-only snappy=1.1.9-3
    tar xf snappy_1.1.9.orig.tar.gz --strip-components=2 --wildcards '*/testdata/alice29.txt'

The script needs torch 2.13.0 and transformers 5 (with tokenizers), and takes about ten minutes on two
cores. The same machine and versions give the same bytes; another processor may round differently. The
model card, `README.md` in that folder, is written by hand.
"""

import argparse
import hashlib
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

SOURCE_SHA256 = "7467306ee0feed4971260f3c87421154a05be571d944e9cb021a5713700c38f0"
SEED = 1865
UNKNOWN = "<unk>"
VOCABULARY = 2048
CONTEXT = 64
PIECE = r" ?[A-Za-z]+(?:'[A-Za-z]+)?| ?[^A-Za-z ]| "
"""What is never merged across: a word with the space before it, a sign, a space. In `tokenizer.json` too."""

BATCH = 64
WARM_UP = 50
PEAK_RATE = 4e-3
WEIGHT_DECAY = 0.05
SMUDGED = 0.25
"""At most this share of what the model sees is wrong, so that it learns to recover from its own slips."""


def main() -> None:
    """Make the model from the text and folder named on the command line."""
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("text", type=Path, help="alice29.txt")
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--steps", type=int, default=2000)
    chosen = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(2)
    text = prepare(read_source(chosen.text))
    tokenizer = train_tokenizer(text)
    ids = torch.tensor(tokenizer.encode(text).ids)
    model = train(new_model(), ids, steps=chosen.steps)
    write_model(model, chosen.folder)
    print(f"loss of what was written: {mean_loss(model.float(), ids):.3f}")
    write_tokenizer(tokenizer, chosen.folder)


def read_source(path: Path) -> str:
    """Return the book as published; raises `SystemExit` if it is another edition."""
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SOURCE_SHA256:
        raise SystemExit(f"error: {path} is not the alice29.txt this model is made from")
    return content.decode("ascii").replace("\r\n", "\n").rstrip("\x1a")


def prepare(source: str) -> str:
    """Return the story alone: one paragraph per line, straight double quotes, no headings."""
    blocks = (block for block in source.split("\n\n") if block.strip())
    paragraphs = (joined(block) for block in blocks if not is_ornament(block))
    return "\n".join(paragraphs) + "\n"


def is_ornament(block: str) -> bool:
    """Whether this is a title, a chapter heading or a row of stars."""
    line = block.strip("\n")
    centred = "\n" not in line and len(line) - len(line.lstrip()) > 12
    return centred or "*  " in block or "CHAPTER" in block


def joined(block: str) -> str:
    """Return a block as one paragraph, or a verse with its lines kept."""
    lines = block.strip("\n").split("\n")
    verse = len(lines) > 1 and all(line.startswith("    ") for line in lines)
    text = ("\n" if verse else " ").join(" ".join(line.split()) for line in lines)
    return with_double_quotes(text.replace("_", "").replace("- ", "-").replace(" --", "--"))


def with_double_quotes(text: str) -> str:
    """Turn `speech' into "speech", and leave the apostrophes inside words."""
    closed = re.sub(r"(?<=[.,!?;:)\-\w\"])'(?!\w)", '"', text.replace("`", '"'))
    return closed.replace('""', '"')


def train_tokenizer(text: str) -> Any:
    """Return a byte-pair tokenizer whose pieces are simple enough to be split by one regular expression."""
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    printable = ["\n", *map(chr, range(32, 127))]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[UNKNOWN], initial_alphabet=printable, show_progress=False
    )
    tokenizer.train_from_iterator(text.splitlines(keepends=True), trainer)
    return tokenizer


def new_model() -> Any:
    """Return the untrained model, in float32."""
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=80, intermediate_size=224, num_hidden_layers=4,
        num_attention_heads=5, num_key_value_heads=1, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=None, pad_token_id=None,
        initializer_range=0.05,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(do_sample=False, max_new_tokens=48)
    return model


def train(model: Any, ids: Any, *, steps: int) -> Any:
    """Return the model after `steps` batches of random windows into `ids`."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=PEAK_RATE, betas=(0.9, 0.98), weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step, steps))
    began = time.monotonic()
    for step in range(1, steps + 1):
        starts = torch.randint(len(ids) - CONTEXT, (BATCH,))
        batch = torch.stack([ids[start:start + CONTEXT] for start in starts.tolist()])
        loss = model(input_ids=smudged(batch, ids), labels=batch).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            seconds = time.monotonic() - began
            print(f"step {step}/{steps}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    return model


def smudged(batch: Any, ids: Any) -> Any:
    """Return `batch` with some tokens replaced by others of the text, in each sequence another share."""
    others = ids[torch.randint(len(ids), batch.shape)]
    return torch.where(torch.rand(batch.shape) < SMUDGED * torch.rand(len(batch), 1), others, batch)


def mean_loss(model: Any, ids: Any) -> float:
    """Return the mean loss, in nats per token, over the whole text in windows."""
    windows = ids[:len(ids) // CONTEXT * CONTEXT].reshape(-1, CONTEXT)
    with torch.no_grad():
        return float(model(input_ids=windows, labels=windows).loss)


def rate(step: int, steps: int) -> float:
    """Return the share of the peak rate: a short climb, then half a cosine down to nothing."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (step - WARM_UP) / max(1, steps - WARM_UP)))


def write_model(model: Any, folder: Path) -> None:
    """Write the configuration and the weights, the latter rounded to BF16."""
    model.to(torch.bfloat16).save_pretrained(folder)


def write_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write the tokenizer in compact JSON, and the few settings that transformers wants beside it."""
    content = json.loads(tokenizer.to_str())
    (folder / "tokenizer.json").write_text(json.dumps(content, separators=(",", ":")) + "\n")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": UNKNOWN,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


if __name__ == "__main__":
    main()
