"""Let a model from the Hugging Face cache tell a story: `python -m bundler.demo.speak REPO_ID`.

A program of its own that shares nothing with the rest of the package: it finds the model as any user's
program would, through huggingface_hub. With `HF_HUB_OFFLINE=1` that means the cache or nothing.
"""

from __future__ import annotations

import argparse
import re
import sys
import textwrap
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from huggingface_hub import snapshot_download

from bundler.demo.llama import Llama, Tokenizer, read_model, read_tokenizer

PROMPT = "Alice was beginning to get very tired"
WORDS = 60
LONGEST_ENDING = 40
"""Words allowed beyond those asked for, so as to finish a sentence."""

MOST_TOKENS_PER_WORD = 3
SENTENCE_END = re.compile(r'[.!?]"?(?=\s)')


def main(arguments: Sequence[str] | None = None) -> None:
    """Print a continuation of the prompt; say on stderr which model speaks."""
    parser = argparse.ArgumentParser(prog="python -m bundler.demo.speak")
    parser.add_argument("repo_id")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--words", type=int, default=WORDS)
    chosen = parser.parse_args(arguments)
    folder = Path(snapshot_download(chosen.repo_id))
    model, tokenizer = read_model(folder), read_tokenizer(folder)
    count = sum(tensor.size for tensor in model.tensors.values())
    print(f"{chosen.repo_id}: {count:,} parameters from {folder}", file=sys.stderr, flush=True)
    print(wrapped(story(model, tokenizer, chosen.prompt, words=chosen.words)))


def story(model: Llama, tokenizer: Tokenizer, prompt: str, *, words: int) -> str:
    """Return `prompt` and at least `words` words more, up to the end of a sentence if one comes soon."""
    ids = tokenizer.encode(prompt or "\n")
    said = ""
    for number in islice(model.continuation(ids), MOST_TOKENS_PER_WORD * (words + LONGEST_ENDING)):
        said += tokenizer.decode([number])
        if end := end_of_story(said, words):
            return prompt + said[:end]
    return prompt + said.rstrip()


def end_of_story(said: str, words: int) -> int:
    """Return where the first sentence ends that completes `words` words, 0 if none does yet."""
    ends = (match.end() for match in SENTENCE_END.finditer(said))
    return next((end for end in ends if len(said[:end].split()) >= words), 0)


def wrapped(text: str) -> str:
    """Return `text` in lines for a terminal, its own line breaks kept."""
    return "\n".join(textwrap.fill(line, width=80) for line in text.split("\n"))


if __name__ == "__main__":
    main()
