"""Readers of what strangers wrote, fed with what a coverage-guided fuzzer makes up: `python -m fuzz TARGET`.

    python -m fuzz index                              until it finds something, or Ctrl-C
    python -m fuzz codec -max_total_time=300          libFuzzer's own options follow the target

Each target is a module here with one function, `check`: it feeds a reader, and raises where a promise does not hold.
What is worth to be met again is kept in `corpus/TARGET/`; the tests replay it without the fuzzer. A run reads it and
writes what it finds elsewhere: new inputs to the folder `.fuzz/TARGET` (or `--into`), one that breaks a promise beside
it, as `TARGET-crash-*`. To keep it, copy it into the corpus, under a name that says what it is, with the repair.
"""
