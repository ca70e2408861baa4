"""The text of the README.txt that every bundle carries."""

from collections.abc import Sequence

_LISTED_AT_MOST = 40

_TEXT = """\
{title}
{underline}

This folder holds a bundle: files of Hugging Face repositories (models,
datasets, spaces), packed to be carried to a server without a network.
{count}

    index.json      what the bundle holds, and where each byte of it is
    SHA256SUMS      the SHA-256 of every file of the bundle
    SHA256SUMS.sig  a signature of SHA256SUMS; only if the bundle is signed
    build-info.json who built it, when and with what
    restore.py      unpacks without the bundler program, see below
    README.txt      this text
{volumes}

1. Check
--------

Is it undamaged? In each folder of the bundle (in one that does not have
all volumes, add --ignore-missing):

    sha256sum -c SHA256SUMS

Is it what the sender sent? SHA256SUMS proves all other files, but anyone
could have written a new one. If there is a SHA256SUMS.sig, check it
against the signers whom you trust, which you have from elsewhere in a
file ALLOWED_SIGNERS:

    ssh-keygen -Y verify -f ALLOWED_SIGNERS -I SIGNER -n bundler-v1 \\
        -s SHA256SUMS.sig < SHA256SUMS

If there is none, the bundle is unsigned. Then let the sender tell you
these two by another way (telephone, paper), and compare. The SHA-256 of
index.json is the bundle's identity and proves the files in it; that of
SHA256SUMS proves restore.py as well:

    sha256sum index.json SHA256SUMS

2. Install
----------

With the bundler program, into the Hugging Face cache (it checks all of
the above itself). DIR is this folder; name all of them if there are more:

    bundle install DIR

3. Several sticks
-----------------

The volumes may be spread over several folders or sticks. Each of them
must carry the same index.json, the same SHA256SUMS and (if there) the
same SHA256SUMS.sig. Name all folders in one command, or copy all into one.

4. Without the bundler program
------------------------------

restore.py needs Python 3.8 or later and nothing else, but for bundles
with zstd parts: Python 3.14, or the program zstd, or the Python package
zstandard or backports.zstd. It proves all that it writes. The first
command lists what is here, the second restores it as plain files:

    python3 -I restore.py
    python3 -I restore.py TARGET_DIR [--only REPO_ID] [BUNDLE_DIR ...]

5. By hand
----------

With tar, zstd, dd, sha256sum, grep and sed (of GNU) any single file can
be had without Python. Type the lines that begin with four spaces; the
values after = are examples, yours are in what the line before printed.

a. Find the file. (index.json is one long line; read it with
   tr '{{' '\\n' < index.json | less. A repository's files stand after its
   commit and before its id.) In its path, type a dot for each of [ * ^ $.
   This prints its sha256 and size:

    FILE=config.json
    grep -ao '{{[^{{}}]*"path":"'"$FILE"'"[^{{}}]*}}' index.json

b. Find its extents: ranges of parts, which are the file when put one
   after another. An empty file has none.

    SHA256=0000000000000000000000000000000000000000000000000000000000000000
    grep -ao '"extents":[^]]*],"sha256":"'"$SHA256"'"' index.json

c. Make an empty file, outside of this folder:

    OUT=/tmp/restored
    : > "$OUT"

d. For each extent, in the order of b, do d to f. Look up its part. This
   prints the part's codec, sha256 and volume:

    NUMBER=0
    grep -ao '"parts":\\[.*\\],"requires"' index.json |
        grep -o '{{[^{{}}]*}}' | sed -n "$((NUMBER + 1))p"

e. Check the part: this must print the part's sha256. Volume 0 is the
   file that ends in -001.tar, volume 1 in -002.tar, and so on.

    V={first}
    PART=0000000000000000000000000000000000000000000000000000000000000000
    tar -xOf "$V" "parts/$PART" | sha256sum

f. Append the extent: SKIP is its offset, COUNT its length. If the codec
   is zstd:

    SKIP=0 COUNT=1000
    tar -xOf "$V" "parts/$PART" | zstd -dc |
        dd iflag=skip_bytes,count_bytes,fullblock bs=1M \\
        skip="$SKIP" count="$COUNT" status=none >> "$OUT"

   If the codec is raw, the part is not compressed:

    SKIP=0 COUNT=1000
    tar -xOf "$V" "parts/$PART" |
        dd iflag=skip_bytes,count_bytes,fullblock bs=1M \\
        skip="$SKIP" count="$COUNT" status=none >> "$OUT"

g. Check the file: this must print the sha256 of a.

    sha256sum "$OUT"
"""


def readme_text(name: str, volumes: Sequence[str]) -> str:
    """Return the README.txt of the bundle `name` with these volumes: plain ASCII, at most 78 columns."""
    title = f"Bundle {name}"
    counted = {0: "It has no volumes, as all its files are empty.", 1: "It has one volume (a tar file)."}
    return _TEXT.format(
        title=title,
        underline="=" * len(title),
        count=counted.get(len(volumes), f"It has {len(volumes)} volumes (tar files)."),
        volumes="".join(f"    {volume}\n" for volume in _shortened(volumes)).rstrip("\n"),
        first=volumes[0] if volumes else f"{name}-001.tar",
    )


def _shortened(volumes: Sequence[str]) -> Sequence[str]:
    """Return all names, or the first and the last of very many."""
    if len(volumes) <= _LISTED_AT_MOST:
        return volumes
    return [*volumes[:_LISTED_AT_MOST - 2], "...", volumes[-1]]
