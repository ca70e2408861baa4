"""Documents that somebody else wrote: wrong types, odd JSON and huge files become errors that say where."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler.digest import Digest
from bundler.errors import FileSystemError, FormatError, LockError
from bundler.fields import MAX_INTEGER, Fields, parse_json, read_bounded
from bundler.names import RelPath

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


def fields(values: object) -> Fields:
    """Return the fields of a document."""
    return Fields(values, document="the list", failure=LockError)


@pytest.mark.parametrize("value", [None, [], "text", 1, 1.5, True])
def test_a_document_must_be_an_object(value: object) -> None:
    """Anything else at the top is refused."""
    with pytest.raises(LockError, match="^the list is not an object$"):
        fields(value)


def test_an_error_says_where() -> None:
    """Steps, numbers in lists, and the field itself."""
    repos = fields({"repo": [{}, {"inner": {"at": [{"path": "../x"}]}}]}).objects("repo")

    with pytest.raises(LockError, match=r"^the list: `repo\[1\]\.inner\.at\[0\]\.path` is not valid: .*'\.\./x'"):
        repos[1].inner("inner").objects("at")[0].name("path", RelPath)
    with pytest.raises(LockError, match=r"^the list: `repo\[0\]\.id` is missing$"):
        repos[0].text("id")


@pytest.mark.parametrize("value", [1, True, 1.5, [], {}, ["x"]])
def test_text_is_text_only(value: object) -> None:
    """No number becomes text by itself."""
    with pytest.raises(LockError, match="`a` is not text"):
        fields({"a": value}).text("a")


def test_text_must_be_writable() -> None:
    """Half a surrogate pair, which JSON can hold and no file can, is refused before it is passed on."""
    values = json.loads('{"one": "\\ud800", "many": ["fine", "x\\udc80"]}')

    with pytest.raises(LockError, match="`one` is not Unicode text"):
        fields(values).text("one")
    with pytest.raises(LockError, match=r"`many\[1\]` is not valid"):
        fields(values).texts("many", str)


@pytest.mark.parametrize("value", [
    True, False, -1, 1.0, 0.5, float("nan"), float("inf"), "1", [], {}, MAX_INTEGER + 1, 10**4000, -10**400
])
def test_a_size_is_a_whole_number_that_is_exact_everywhere(value: object) -> None:
    """Truth values, fractions, negative and giant numbers are no sizes."""
    with pytest.raises(LockError, match="`size` is not a whole number from 0 to"):
        fields({"size": value}).size("size")


@pytest.mark.parametrize(("value", "limit"), [(0, 0), (7, 7), (MAX_INTEGER, MAX_INTEGER)])
def test_a_size_may_be_as_large_as_its_limit(value: int, limit: int) -> None:
    """The limit itself is fine, one more is not."""
    assert fields({"size": value}).size("size", limit=limit) == value
    with pytest.raises(LockError, match="is not a whole number"):
        fields({"size": value + 1}).size("size", limit=limit)


@pytest.mark.parametrize("value", ["text", {}, 1, True])
def test_a_list_is_a_list_only(value: object) -> None:
    """Text is not taken for a list of its characters."""
    with pytest.raises(LockError, match="`many` is not a list"):
        fields({"many": value}).texts("many", str)
    with pytest.raises(LockError, match="`many` is not a list"):
        fields({"many": value}).objects("many")


@pytest.mark.parametrize("value", [1, None, [], True, "\x00", "../x"])
def test_a_list_says_which_of_its_values_is_wrong(value: object) -> None:
    """Not only that one is."""
    with pytest.raises(LockError, match=r"`many\[1\]` is not valid"):
        fields({"many": ["fine", value]}).texts("many", RelPath)


def test_a_list_may_mix_texts_and_objects() -> None:
    """Each is read in its own way, and an error says which of them is wrong."""
    mixed = fields({"list": ["one", {"name": "two"}]})

    assert mixed.texts_or_objects("list", str.upper, lambda inner: inner.text("name")) == ("ONE", "two")
    with pytest.raises(LockError, match=r"`list\[1\].other` is missing"):
        mixed.texts_or_objects("list", str, lambda inner: inner.text("other"))
    with pytest.raises(LockError, match=r"`list\[0\]` is not valid: not text"):
        fields({"list": [7]}).texts_or_objects("list", str, lambda inner: "")


@pytest.mark.parametrize(("value", "meant"), [
    (None, False), (False, False), (0, False), ("", False), ([], False), (True, True), ("manual", True), ([1], True)])
def test_a_field_that_some_spell_as_text_and_some_as_a_flag(value: object, meant: bool) -> None:
    """Whatever is there and not nothing means yes; what is absent means no."""
    assert fields({"gated": value}).says("gated") is meant
    assert not fields({}).says("gated")


def test_what_is_absent_is_told_from_what_is_wrong() -> None:
    """Optional fields may be absent or null; a wrong value is wrong all the same."""
    values = fields({"null": None, "wrong": "xyz", "right": "0" * 64})

    assert values.optional("absent", Digest) is None
    assert values.optional("null", Digest) is None
    assert values.optional("right", Digest) == "0" * 64
    with pytest.raises(LockError, match="`wrong` is not valid"):
        values.optional("wrong", Digest)
    with pytest.raises(LockError, match="`absent` is missing"):
        values.need("right", "absent")


def test_a_field_that_nobody_knows_may_be_refused() -> None:
    """A misspelt field is named, together with those that are known."""
    with pytest.raises(LockError, match=r"`revison` is not a known field \(known here: id, revision\)"):
        fields({"id": "a", "revison": "main"}).only("id", "revision")


@pytest.mark.parametrize("text", [
    b"", b"{", b"nonsense", b"{} {}", b"{'a': 1}", b"\xff", b"\xef\xbb\xbf{}", "{}".encode("utf-16"), b'{"a": NaN}',
    b'{"a": Infinity}', b"-Infinity", b'{"a": 1, "a": 1}', b'{"x": [{"a": 1, "b": 2, "a": 3}]}', b'"\n"', b"01", b"1.",
    b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b"[1,]", b'"\\x41"', b'"\\ud8',
], ids=lambda text: repr(text[:12]))
def test_refuses_what_is_not_strict_json(text: bytes) -> None:
    """Broken, ambiguous, endless: one kind of error, in a line that fits on a screen."""
    with pytest.raises(LockError, match="^the list is not readable JSON: ") as caught:
        parse_json(text, document="the list", failure=LockError)

    assert len(str(caught.value)) < 300


@given(JSON)
def test_reads_what_a_program_writes(value: object) -> None:
    """Any value that strict JSON can hold comes back."""
    try:
        text = json.dumps(value, allow_nan=False).encode()
    except ValueError:
        return

    assert parse_json(text, document="the list", failure=LockError) == value


@pytest.mark.parametrize("text", [
    b"1.5", b"1.0", b"1e3", b"1E3", b"-1", b"9007199254740992", '{"ä": 1}'.encode(), b'{"\\u00e4": 1}',
    b'[{"a": [0.1]}]', b"1e999",
])
def test_plain_json_has_one_spelling(text: bytes) -> None:
    """Where bytes are compared, numbers are whole and names ASCII: everything else is spelled in several ways."""
    with pytest.raises(LockError, match="not readable JSON"):
        parse_json(text, document="the list", failure=LockError, plain=True)


@given(st.dictionaries(st.sampled_from("abc"), st.integers(0, MAX_INTEGER) | st.text() | st.booleans() | st.none()))
def test_plain_json_is_read_all_the_same(value: dict[str, object]) -> None:
    """Whole numbers, texts in any script, and the constants."""
    text = json.dumps(value).encode()

    assert parse_json(text, document="the list", failure=LockError, plain=True) == value


def test_a_file_has_a_limit(tmp_path: Path) -> None:
    """One byte more than allowed is refused; the limit itself is not."""
    path = tmp_path / "index.json"
    path.write_bytes(bytes(1000))

    assert read_bounded(path, limit=1000, failure=FormatError) == bytes(1000)
    with pytest.raises(FormatError, match="index.json is larger than the 999 bytes"):
        read_bounded(path, limit=999, failure=FormatError)


def test_a_file_without_an_end_is_refused() -> None:
    """Reading stops at the limit, whatever the file says of its size."""
    with pytest.raises(FormatError, match="is larger than"):
        read_bounded(Path("/dev/zero"), limit=3 << 20, failure=FormatError)


def test_a_generous_limit_costs_no_memory(tmp_path: Path) -> None:
    """A small file is read in little memory, even if it might have been a gigabyte."""
    (tmp_path / "small").write_bytes(b"{}")
    program = textwrap.dedent("""
        import sys
        from pathlib import Path
        from bundler.errors import FormatError
        from bundler.fields import read_bounded
        print(read_bounded(Path(sys.argv[1]), limit=1 << 30, failure=FormatError))
    """)

    def limit_memory() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))

    run = subprocess.run([sys.executable, "-c", program, tmp_path / "small"], preexec_fn=limit_memory,
                         capture_output=True, text=True, timeout=60)

    assert (run.returncode, run.stdout) == (0, "b'{}'\n"), run.stderr


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """Absent, or no file at all."""
    with pytest.raises(FileSystemError, match="absent cannot be read: No such file"):
        read_bounded(tmp_path / "absent", limit=10, failure=FormatError)
    with pytest.raises(FileSystemError, match="cannot be read: Is a directory"):
        read_bounded(tmp_path, limit=10, failure=FormatError)
