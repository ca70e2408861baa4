"""What commands say: exit codes, errors that name the thing, results that programs can read. All in real processes."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import files as files_of_distribution
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest

import bundler
from bundler.errors import INTERRUPTED_EXIT_CODE
from tests import bundle_command
from tests.bundle_command import Result, environment
from tests.bundles import break_file, noise
from tests.faulty_hub import FaultyHubServer, Hang, Status
from tests.gateway_side import running, wait_until
from tests.manifests import write_manifest

FILES: Mapping[str, bytes] = {
    "config.json": b'{"a": 1}', "modeling.py": b"print('hello')\n", "pytorch_model.bin": noise("one", 11 << 20),
    "model.safetensors": noise("two", 11 << 20),
}
TRICKY = "\u6a21\u578b/caf\u00e9 \u202etxt.exe"
DATA: Mapping[str, bytes] = {TRICKY: b"whatever", "train.jsonl": b"{}\n" * 100}
NOBODY: Mapping[str, object] = {
    "outcome": "unsigned", "principals": [], "key": "", "detail": "", "signers": None, "checked_at": None}
"""What programs are told of a signature that is not there."""

VERBS = (
    "doctor", "lock", "build", "sign", "inspect", "verify", "install", "status", "rollback", "inventory", "clean",
    "demo")


@dataclass(frozen=True, kw_only=True)
class Built:
    """A bundle of two volumes, and what the commands said that made it."""

    endpoint: str
    commit: str
    folder: Path
    locked: Result
    built: Result


def bundle(*arguments: object, **how: Any) -> Result:
    """Run `bundle` to its end. A traceback is a failure, whatever the test wants to see."""
    done = bundle_command.bundle(*arguments, **how)
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The bundle `gift`, which nobody changes; its hub is gone."""
    place = tmp_path_factory.mktemp("cli")
    with FaultyHubServer() as hub:
        commit = hub.publish("org/a", FILES)
        hub.publish("org/data", DATA, repo_type="dataset")
        repos = ("org/a", {"id": "org/data", "type": "dataset"})
        manifest = write_manifest(place / "gift.toml", *repos, endpoints=[hub.endpoint])
        locked = bundle("lock", manifest, "--json")
        done = bundle("build", manifest, *places(place), "--volume-size", "18MiB", "--json")
    yield Built(endpoint=hub.endpoint, commit=commit, folder=place / "out" / "gift", locked=locked, built=done)


def places(folder: Path) -> tuple[object, ...]:
    """Return the options that keep a build below `folder`."""
    return "-o", folder / "out", "--staging", folder / "staging"


def copy_of(built: Built, folder: Path) -> Path:
    """Return a copy of the bundle that may be harmed."""
    return shutil.copytree(built.folder, folder / "gift")


def result(done: Result) -> Any:
    """Return what a command with `--json` printed: all of stdout, in characters that no locale spoils."""
    assert done.stdout.isascii()
    return json.loads(done.stdout)


def said(done: Result) -> dict[str, str]:
    """Return the lines of stderr that start as `error: ` and `hint: `."""
    return dict(line.split(": ", 1) for line in done.stderr.splitlines() if line.startswith(("error: ", "hint: ")))


def refusal(done: Result) -> tuple[int, str]:
    """Return exit code and error of a command that must have printed no result."""
    assert done.stdout == ""
    return done.returncode, said(done)["error"]


# The manifest and its lock


@pytest.mark.parametrize("text, error", [
    ('name = "x', "is not readable TOML: "),
    ("\x00", "is not readable TOML: "),
    ('name = "m"\n[[repo]]\nid = "org/a"\nrevison = "main"', "`repo[0].revison` is not a known field (known here:"),
    ('name = "m"\nendpoint = "x"\n[[repo]]\nid = "org/a"', "`endpoint` is not a known field"),
    ('name = "m"', "`repo` is missing: name at least one `[[repo]]`"),
    ('[[repo]]\nid = "org/a"', "`name` is missing"),
    ('name = "../M"\n[[repo]]\nid = "org/a"', "`name` is not valid: '../M' is not a bundle's name"),
    ('name = "m"\n[[repo]]\nid = "../a"', "`repo[0].id` is not valid: "),
    ('name = "m"\n[[repo]]\nid = "https://huggingface.co/org/a"', "`repo[0].id` is not valid"),
    ('name = "m"\n[[repo]]\nid = "org/a"\n[[repo]]\nid = 7', "`repo[1].id` is not text"),
    ('name = "m"\n[[repo]]\nid = "org/a"\ntype = "models"', "`repo[0].type` is not valid: 'models'"),
    ('name = "m"\n[[repo]]\nid = "org/a"\nrevision = "a..b"', "`repo[0].revision` is not valid"),
    ('name = "m"\n[[repo]]\nid = "org/a"\ninclude = "*.json"', "`repo[0].include` is not a list"),
    ('name = "m"\nendpoints = ["hf-mirror.com"]\n[[repo]]\nid = "org/a"', "`endpoints[0]` is not valid: "),
    ('name = "m"\n[[repo]]\nid = "org/a"\n[[repo]]\nid = "org/a"', "`org/a` at `main` stands in it twice"),
])
def test_a_manifest_without_meaning_is_refused(tmp_path: Path, text: str, error: str) -> None:
    """Exit code 10, and the file and the field are named."""
    manifest = tmp_path / "m.toml"
    manifest.write_text(text)

    exit_code, told = refusal(bundle("lock", manifest))

    assert exit_code == 10
    assert told.startswith(str(manifest)) and error in told


@pytest.mark.parametrize("arguments, error", [
    (["lock", "no.toml"], "'no.toml' does not exist"),
    (["lock"], "Missing argument 'MANIFEST'"),
    (["build", "m.toml"], "Missing option '-o'"),
    (["build", "m.toml", "-o", ".", "--volume-size", "1MB"], "at least 18,874,368 bytes"),
    (["build", "m.toml", "-o", ".", "--volume-size", "plenty"], "'plenty' is not a size such as"),
    (["lock", "m.toml", "--endpoint", "ftp://x"], "'ftp://x' is not a URL"),
    (["verify", "nowhere"], "'nowhere' does not exist"),
    (["install", ".", "--revision-as", "../x"], "'../x' is not a branch"),
    (["fetch"], "No such command 'fetch'"),
])
def test_a_wrong_command_line_is_a_usage_error(tmp_path: Path, arguments: list[str], error: str) -> None:
    """Exit code 2, and what is wrong with which argument."""
    (tmp_path / "m.toml").touch()

    done = bundle(*arguments, cwd=tmp_path)

    assert (done.returncode, done.stdout) == (2, "")
    assert error in done.stderr and "--help" in done.stderr


@pytest.mark.parametrize("seconds", ["9" * 30, "yesterday"])
def test_a_date_that_is_none_is_a_usage_error(tmp_path: Path, seconds: str) -> None:
    """SOURCE_DATE_EPOCH is checked before anything is fetched."""
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[nobody_there()])

    done = bundle("build", manifest, *places(tmp_path), variables={"SOURCE_DATE_EPOCH": seconds})

    assert done.returncode == 2 and "SOURCE_DATE_EPOCH" in done.stderr


def test_a_lock_that_is_no_lock_is_refused(tmp_path: Path) -> None:
    """Exit code 11, and the lock's file is named; it is left as it is."""
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[nobody_there()])
    lock = tmp_path / "m.lock.json"
    lock.write_text("<<<<<<< HEAD\n")

    exit_code, told = refusal(bundle("build", manifest, *places(tmp_path)))

    assert exit_code == 11
    assert told.startswith(f"{lock} is not readable JSON")
    assert lock.read_text() == "<<<<<<< HEAD\n"


@pytest.mark.parametrize("change, error", [
    (lambda lock: lock.unlink(), "it is not there"),
    (lambda lock: lock.write_text(lock.read_text().replace("org/a", "org/b")), "it does not hold `org/a` at `main`"),
])
def test_locked_means_that_nothing_is_locked_anew(
    hub: FaultyHubServer, tmp_path: Path, change: Callable[[Path], object], error: str
) -> None:
    """Exit code 12 for a lock that is missing or does not fit; `bundle lock` is the way out; no hub is asked."""
    hub.publish("org/a", {"config.json": b"{}"})
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint])
    bundle("lock", manifest)
    change(tmp_path / "m.lock.json")
    asked = len(hub.requests)

    done = bundle("build", manifest, *places(tmp_path), "--locked")

    assert refusal(done) == (12, f"{tmp_path / 'm.lock.json'} does not fit its manifest: {error}")
    assert said(done)["hint"] == f"run `bundle lock {manifest}`"
    assert len(hub.requests) == asked


def test_a_new_lock_says_which_commits_have_moved(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Whoever changes a pattern may not have meant to change the model."""
    old = hub.publish("org/a", {"config.json": b"{}", "notes.txt": b"n"})
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint])
    bundle("lock", manifest)
    new = hub.publish("org/a", {"config.json": b"{ }", "notes.txt": b"n"})
    write_manifest(manifest, {"id": "org/a", "exclude": ["*.txt"]}, endpoints=[hub.endpoint])

    done = bundle("build", manifest, *places(tmp_path))

    assert done.returncode == 0, done.stderr
    assert f"org/a at `main` has moved from {old} to {new}" in done.stderr


def test_a_lock_is_not_a_manifest(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Their names are alike, and so are the mistakes."""
    hub.publish("org/a", {"config.json": b"{}"})
    bundle("lock", write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint]))

    done = bundle("build", tmp_path / "m.lock.json", *places(tmp_path))

    assert done.returncode == 10
    assert said(done)["hint"].strip() == "it looks like JSON: name the manifest, not its lock"


# The hub


@pytest.mark.parametrize("status", [429, 503])
def test_a_hub_that_is_busy_is_not_a_strange_one(hub: FaultyHubServer, tmp_path: Path, status: int) -> None:
    """Exit code 24, with all that were asked and what to do."""
    hub.publish("org/a", {"config.json": b"{}"})
    hub.fail(Status(code=status))
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint])

    done = bundle("lock", manifest)

    assert done.returncode == 24
    assert f"{hub.endpoint} answers {status} for org/a" in done.stderr and "https://huggingface.co" in done.stderr
    assert "hint: try again" in done.stderr


@pytest.mark.parametrize("repo, exit_code, error", [
    ({"id": "org/none"}, 21, "{hub} has no org/none that it would show"),
    ({"id": "org/a", "type": "dataset"}, 21, "{hub} has no datasets/org/a that it would show"),
    ({"id": "org/private"}, 21, "{hub} has no org/private that it would show"),
    ({"id": "org/a", "revision": "v9"}, 22, "{hub} has no org/a at `v9`"),
    ({"id": "org/a", "include": ["*.gguf"]}, 13, "none of the 2 files of org/a at `main` passes the patterns"),
    ({"id": "org/a", "exclude": ["*"]}, 13, "none of the 2 files of org/a at `main` passes the patterns"),
])
def test_what_the_hub_does_not_have_is_named(
    hub: FaultyHubServer, tmp_path: Path, repo: dict[str, object], exit_code: int, error: str
) -> None:
    """Repository, revision and patterns have an exit code each; no lock is written."""
    hub.publish("org/a", {"config.json": b"{}", "README.md": b"# A"})
    hub.publish("org/private", {"config.json": b"{}"})
    hub.gate("org/private", "token", private=True)
    manifest = write_manifest(tmp_path / "m.toml", repo, endpoints=[hub.endpoint])

    done = bundle("lock", manifest)

    assert refusal(done) == (exit_code, error.format(hub=hub.endpoint))
    assert said(done)["hint"]
    assert list(tmp_path.iterdir()) == [manifest]


def test_a_gated_repository_says_how_to_get_in(hub: FaultyHubServer, tmp_path: Path) -> None:
    """The hub lists its files to anybody and refuses to give them: found out before anything is fetched or written."""
    hub.publish("org/gated", {"config.json": b"{}"})
    hub.publish("org/open", {"config.json": b"{ }"})
    hub.gate("org/gated", "token")
    manifest = write_manifest(tmp_path / "m.toml", "org/open", "org/gated", endpoints=[hub.endpoint])

    locked = bundle("lock", manifest)
    done = bundle("build", manifest, *places(tmp_path))

    for refused in (locked, done):
        exit_code, told = refusal(refused)
        assert exit_code == 23
        assert "org/gated is gated or private" in told and "answers 401" in told
        assert "accept its terms" in said(refused)["hint"] and "HF_TOKEN" in said(refused)["hint"]
    assert not hub.asked(method="GET", path="/org/*")
    assert not (tmp_path / "out" / "m").exists()


def nobody_there() -> str:
    """Return an endpoint where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_an_endpoint_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    """Exit code 24."""
    endpoint = nobody_there()
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[endpoint])

    exit_code, told = refusal(bundle("build", manifest, *places(tmp_path)))

    assert exit_code == 24
    assert told.startswith(f"{endpoint} cannot be reached")


@pytest.mark.parametrize("options, variables", [
    (["--endpoint", "{hub}"], {}),
    (["--endpoint", "{hub}/"], {"HF_ENDPOINT": "{nowhere}"}),
    (["--endpoint", "{nowhere}", "--endpoint", "{hub}"], {}),
    ([], {"HF_ENDPOINT": "{hub}"}),
])
def test_other_endpoints_than_the_manifests_can_be_asked(
    hub: FaultyHubServer, tmp_path: Path, options: list[str], variables: dict[str, str]
) -> None:
    """`--endpoint` goes before HF_ENDPOINT, and that before the manifest; the lock and the bundle say who was asked."""
    hub.publish("org/a", {"config.json": b"{}"})
    nowhere = nobody_there()
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[nowhere])
    given = [option.format(hub=hub.endpoint, nowhere=nowhere) for option in options]
    environment = {name: value.format(hub=hub.endpoint, nowhere=nowhere) for name, value in variables.items()}

    locked = bundle("lock", manifest, *given, "--json", variables=environment)
    built = bundle("build", manifest, *places(tmp_path), *given, "--json", variables=environment)

    assert result(locked)["repos"][0]["told_by"] == hub.endpoint
    assert result(built)["bytes_from"] == {hub.endpoint: 2}


# A bundle and what may have become of it


def test_verify_of_an_unsigned_bundle_has_to_be_allowed(built: Built) -> None:
    """Exit code 70 although every byte is right, 0 if that was expected; both say that nobody signed it."""
    strict = bundle("verify", built.folder)
    allowed = bundle("verify", built.folder, "--allow-unsigned")

    assert (strict.returncode, allowed.returncode) == (70, 0)
    assert said(strict)["error"] == "gift is whole, but nobody vouches for it"
    assert strict.stdout == allowed.stdout
    assert "6 of 6 blobs proven" in allowed.stdout and "NOT SIGNED" in allowed.stdout


@pytest.mark.parametrize("left", [[], ["index.json"], ["gift-001.tar", "gift-002.tar", "index.json"]])
@pytest.mark.parametrize("verb", ["verify", "inspect", "install"])
def test_a_folder_without_sums_is_no_bundle(built: Built, tmp_path: Path, verb: str, left: list[str]) -> None:
    """Exit code 41: an interrupted build or copy has no SHA256SUMS."""
    for name in left:
        shutil.copy(built.folder / name, tmp_path)

    exit_code, told = refusal(bundle(verb, tmp_path, variables={"HF_HUB_CACHE": str(tmp_path / "hub")}))

    assert (exit_code, told) == (41, f"there is no complete bundle in {tmp_path}: SHA256SUMS is missing")
    assert not (tmp_path / "hub").exists()


def test_verify_names_part_volume_and_file_of_a_flipped_bit(built: Built, tmp_path: Path) -> None:
    """Exit code 40; all else is proven."""
    folder = copy_of(built, tmp_path)
    volume = break_file(folder, "pytorch_model.bin")

    done = bundle("verify", folder, "--allow-unsigned")
    found = result(bundle("verify", folder, "--allow-unsigned", "--json"))

    (problem,) = found["problems"]
    assert done.returncode == 40 and said(done)["error"] == "gift is damaged"
    assert (problem["kind"], problem["name"], problem["files"]) == ("damaged", volume, ["`pytorch_model.bin` of org/a"])
    assert f"damaged: {volume}, part {problem['part']}: " in done.stdout
    assert "`pytorch_model.bin` of org/a" in done.stdout and "5 of 6 blobs proven" in done.stdout


def test_verify_says_by_how_much_a_volume_is_cut(built: Built, tmp_path: Path) -> None:
    """Exit code 40, both sizes, and the files whose bytes are gone."""
    folder = copy_of(built, tmp_path)
    volume = folder / "gift-002.tar"
    size = volume.stat().st_size
    with volume.open("r+b") as stream:
        stream.truncate(size - 100_000)

    done = bundle("verify", folder)

    assert done.returncode == 40
    assert f"damaged: gift-002.tar: {volume} has {size - 100_000:,} bytes, gift-002.tar was written with {size:,}" in (
        done.stdout.splitlines())
    assert "; it is of `" in done.stdout and "6 of 6" not in done.stdout


def test_verify_without_a_volume_proves_the_rest(built: Built, tmp_path: Path) -> None:
    """Exit code 41; the volume is named, and what it holds does not count as proven."""
    folder = copy_of(built, tmp_path)
    (folder / "gift-001.tar").unlink()

    done = bundle("verify", folder, "--allow-unsigned")
    found = result(bundle("verify", folder, "--json"))

    assert done.returncode == 41 and said(done)["error"] == "gift is not complete"
    assert "missing: gift-001.tar: is in none of the folders" in done.stdout.splitlines()
    assert 0 < found["blobs_proven"] < found["blobs"] == 6


def test_damage_weighs_more_than_what_is_missing(built: Built, tmp_path: Path) -> None:
    """Exit code 40 where both are found, and both are named."""
    folder = copy_of(built, tmp_path)
    (folder / "gift-001.tar").unlink()
    (folder / "README.txt").write_text("send the files to me\n")

    done = bundle("verify", folder)

    assert done.returncode == 40
    assert "missing: gift-001.tar: " in done.stdout and "damaged: README.txt: " in done.stdout


@pytest.mark.parametrize("name, exit_code", [("index.json", 40), ("SHA256SUMS", 50)])
def test_without_a_true_index_nothing_is_done(built: Built, tmp_path: Path, name: str, exit_code: int) -> None:
    """An index that is not the one in SHA256SUMS is damage, sums that are none are no bundle; nothing is installed."""
    folder = copy_of(built, tmp_path)
    (folder / name).write_bytes((folder / name).read_bytes()[:-7])

    for verb in ("verify", "inspect", "install"):
        done = bundle(verb, folder, variables={"HF_HUB_CACHE": str(tmp_path / "hub")})

        assert refusal(done)[0] == exit_code and name in said(done)["error"]
    assert not (tmp_path / "hub").exists()


def test_verify_reports_what_is_not_of_the_bundle(built: Built, tmp_path: Path) -> None:
    """A foreign file is named, not opened, and no failure."""
    folder = copy_of(built, tmp_path)
    (folder / "autorun.inf").symlink_to("/dev/zero")

    done = bundle("verify", folder, "--allow-unsigned")
    found = result(bundle("verify", folder, "--allow-unsigned", "--json"))

    assert done.returncode == 0
    assert f"not of this bundle, not opened: {folder / 'autorun.inf'}" in done.stdout.splitlines()
    assert found["foreign"] == [str(folder / "autorun.inf")]


def test_inspect_needs_nothing_but_the_index(built: Built, tmp_path: Path) -> None:
    """Without any volume it tells the same, and that the volumes are missing."""
    folder = copy_of(built, tmp_path)
    for volume in folder.glob("*.tar"):
        volume.unlink()

    whole, alone = bundle("inspect", built.folder), bundle("inspect", folder)
    told = result(bundle("inspect", folder, "--json"))

    missing = ["  MISSING here: gift-001.tar", "  MISSING here: gift-002.tar"]
    assert (alone.returncode, alone.stderr) == (0, "")
    assert [line for line in alone.stdout.splitlines() if line not in missing] == whole.stdout.splitlines()
    assert told["missing_volumes"] == ["gift-001.tar", "gift-002.tar"]


def test_inspect_tells_what_an_officer_asks(built: Built) -> None:
    """What is inside, at which commit, who said so, what can run, and that nobody signed it."""
    lines = bundle("inspect", built.folder).stdout.splitlines()

    assert lines[0].startswith("bundle gift: 23.1 MB in 2 volumes of ")
    for line in (
        "  NOT SIGNED: nobody vouches for it",
        "model org/a",
        f"  commit {built.commit} (main)",
        f"  identity told by {built.endpoint} alone",
        "  4 files, 23.1 MB",
        "  programs: modeling.py",
        "  can run code when loaded (pickles and the like): pytorch_model.bin",
        "dataset org/data",
    ):
        assert line in lines


@pytest.mark.parametrize("encoding, shown", [
    ("utf-8", "\u6a21\u578b/caf\u00e9 \\u202etxt.exe"), ("latin-1", "\\u6a21\\u578b/caf\u00e9 \\u202etxt.exe")])
def test_names_are_shown_whatever_the_terminal(built: Built, encoding: str, shown: str) -> None:
    """A name with letters that the terminal lacks ends no command, and none can turn the text on it round."""
    done = bundle("inspect", built.folder, "--files", variables={"PYTHONIOENCODING": encoding}, encoding=encoding)

    assert done.returncode == 0
    assert done.stdout.splitlines()[-1].endswith(f"  8 {shown}")


# Results for programs


def test_the_result_of_lock_is_json(built: Built) -> None:
    """It says what each request became."""
    told = result(built.locked)

    assert (told["name"], Path(told["lock"]).name) == ("gift", "gift.lock.json")
    assert told["repos"][0] == {
        "id": "org/a", "type": "model", "revision": "main", "commit": built.commit, "files": 4,
        "size": sum(map(len, FILES.values())), "told_by": built.endpoint, "agreed_by": [], "differed": []}
    assert [repo["type"] for repo in told["repos"]] == ["model", "dataset"]


def test_the_result_of_build_is_json(built: Built) -> None:
    """It says where the bundle is, what it is known by, and where its bytes came from."""
    told = result(built.built)

    raw_size = sum(map(len, [*FILES.values(), *DATA.values()]))
    assert told == {
        "bundle": str(built.folder), "identity": sha256sum(built.folder / "index.json"), "fresh": True,
        "raw_size": raw_size, "stored_size": sum(path.stat().st_size for path in built.folder.glob("*.tar")),
        "volumes": ["gift-001.tar", "gift-002.tar"], "bytes_from": {built.endpoint: raw_size},
        "signed_with": None}


def sha256sum(path: Path) -> str:
    """Return what the program says."""
    return subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]


def test_the_result_of_inspect_is_json(built: Built) -> None:
    """It lists every file with size and digest."""
    told = result(bundle("inspect", built.folder, "--json"))

    model, dataset = told["snapshots"]
    assert (told["name"], told["signature"], told["missing_volumes"]) == ("gift", NOBODY, [])
    assert told["identity"] == sha256sum(built.folder / "index.json")
    assert (model["id"], model["commit"], model["refs"]) == ("org/a", built.commit, ["main"])
    assert (model["programs"], model["pickles"]) == (["modeling.py"], ["pytorch_model.bin"])
    assert {file["path"]: file["size"] for file in dataset["files"]} == {path: len(DATA[path]) for path in DATA}
    assert all(len(file["sha256"]) == 64 for file in model["files"])


def test_the_result_of_verify_is_json(built: Built) -> None:
    """It counts what was proven, also where the exit code is that of an unsigned bundle."""
    done = bundle("verify", built.folder, "--json")

    told = result(done)
    assert done.returncode == 70
    assert (told["name"], told["blobs"], told["blobs_proven"], told["signature"]) == ("gift", 6, 6, NOBODY)
    assert told["problems"] == told["foreign"] == []


def test_the_result_of_install_is_json(built: Built, tmp_path: Path) -> None:
    """It says what was written and what was there, and which variables to set."""
    cache = tmp_path / "hub"
    first = result(bundle("install", built.folder, "--cache-dir", cache, "--json"))
    second = result(bundle("install", built.folder, "--json", variables={"HF_HUB_CACHE": str(cache)}))

    size = sum(map(len, [*FILES.values(), *DATA.values()]))
    assert (first["written"], first["adopted"]) == (size, 0)
    assert (second["written"], second["adopted"]) == (0, size)
    assert first["installed"][0] == {"id": "org/a", "type": "model", "commit": built.commit, "refs": ["main"]}
    assert first["variables"] == {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
    assert second["cache_dir"] == str(cache)


def test_the_result_of_clean_is_json(tmp_path: Path) -> None:
    """It says how much was freed, and frees it."""
    staged = tmp_path / "blobs" / ("0" * 64)
    staged.parent.mkdir()
    staged.write_bytes(bytes(range(256)) * 1000)

    told = result(bundle("clean", "--staging", tmp_path, "--json"))

    assert told["staging"] == str(tmp_path) and told["freed"] >= 256_000
    assert not staged.exists()


def test_progress_is_not_part_of_the_result(built: Built, tmp_path: Path) -> None:
    """stderr has the progress, in plain lines where it is no terminal; stdout has none of it."""
    done = bundle("install", built.folder, "--cache-dir", tmp_path / "hub")

    assert [line.split(" in ")[0] for line in done.stderr.splitlines()] == ["installing 23.1 MB", "installing: done"]
    assert "\r" not in done.stderr and "\x1b" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[0] == f"installed gift into {tmp_path / 'hub'}: 23.1 MB written, " \
        "0 B were there and proved right"
    assert done.stdout.splitlines()[-2:] == [
        f"  export HF_HUB_CACHE={tmp_path / 'hub'}", "  export HF_HUB_OFFLINE=1"]


def test_a_reader_that_leaves_early_breaks_nothing(built: Built) -> None:
    """`bundle inspect | head -1` ends quietly."""
    command = 'set -o pipefail; "$0" -m bundler inspect --files "$1" | head -c 10'
    done = subprocess.run(["bash", "-c", command, sys.executable, built.folder], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("bundle gif", "")


def test_ctrl_c_is_answered(hub: FaultyHubServer, tmp_path: Path) -> None:
    """Exit code 130, without a traceback, and a word on how to go on."""
    hub.publish("org/a", {"model.safetensors": FILES["model.safetensors"]})
    hub.fail(Hang(after=1 << 20), path="model.safetensors")
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[hub.endpoint])

    with running("build", manifest, *places(tmp_path)) as process:
        wait_until(lambda: hub.asked("model.safetensors", method="GET"))
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)

    assert process.returncode == INTERRUPTED_EXIT_CODE
    assert "interrupted; run the same command again, and it goes on" in stderr and "Traceback" not in stderr


# Help, and machines that lack things


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_helps(verb: str) -> None:
    """`--help` and `-h` say how it is used."""
    long, short = bundle(verb, "--help"), bundle(verb, "-h")

    assert (long.returncode, long.stderr) == (0, "")
    assert f"bundler {verb} " in long.stdout.splitlines()[0] and "Options:" in long.stdout
    assert short.stdout == long.stdout


def test_the_overview_lists_every_command() -> None:
    """`bundle --help` names all verbs in the order of the journey, `bundle --version` the release."""
    overview, version = bundle("--help"), bundle("--version")

    listed = [line.split()[0] for line in overview.stdout.partition("Commands:\n")[2].splitlines()]
    assert tuple(listed) == VERBS
    assert version.stdout == f"bundle, version {bundler.__version__}\n"


@pytest.fixture(scope="module")
def server_python(tmp_path_factory: pytest.TempPathFactory) -> Sequence[str]:
    """A Python as on a server: with what the distribution needs in any case, and no other package."""
    folder = tmp_path_factory.mktemp("site-packages")
    (folder / "bundler").symlink_to(Path(bundler.__file__).parent)
    for requirement in requires("hf-bundler") or ():
        if "extra ==" not in requirement:
            link_distribution(requirement.split(">")[0].strip(), folder)
    path = f"import sys; sys.path.insert(0, {str(folder)!r}); from bundler.cli import run; run()"
    # -S: no site-packages.
    return sys.executable, "-I", "-S", "-c", path


def link_distribution(name: str, folder: Path) -> None:
    """Let `folder` have what a distribution has in site-packages."""
    for file in files_of_distribution(name) or ():
        top = file.parts[0]
        if top not in ("..", "__pycache__") and not (folder / top).exists():
            (folder / top).symlink_to(Path(str(file.locate())).parents[len(file.parts) - 1] / top)


def run_as(python: Sequence[str], *arguments: object) -> Result:
    """Run `bundle` with that Python."""
    done = subprocess.run(
        [*python, *map(str, arguments)], env=environment({}), capture_output=True, encoding="utf-8", check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done


def test_the_server_needs_no_package_of_the_gateway(built: Built, server_python: Sequence[str], tmp_path: Path) -> None:
    """inspect, verify and install work where huggingface_hub and urllib3 are not installed."""
    inspected = run_as(server_python, "inspect", built.folder)
    verified = run_as(server_python, "verify", "--allow-unsigned", built.folder)
    installed = run_as(server_python, "install", built.folder, "--cache-dir", tmp_path / "hub")

    assert [done.returncode for done in (inspected, verified, installed)] == [0, 0, 0]
    config = tmp_path / "hub" / "models--org--a" / "snapshots" / built.commit / "config.json"
    assert config.read_bytes() == FILES["config.json"]


@pytest.mark.parametrize("arguments", [
    ["lock", "m.toml"], ["build", "m.toml", "-o", "out"], ["clean", "--staging", "staging"], ["demo"]])
def test_the_gateway_says_what_it_lacks(server_python: Sequence[str], tmp_path: Path, arguments: list[str]) -> None:
    """Exit code 35, what is missing, and what to install."""
    manifest = write_manifest(tmp_path / "m.toml", "org/a", endpoints=[nobody_there()])
    given = [str(manifest) if argument == "m.toml" else argument for argument in arguments]

    done = run_as(server_python, *given)

    assert refusal(done) == (
        35, "this command needs huggingface_hub, urllib3, and only the connected side has them")
    assert said(done)["hint"] == "pip install 'hf-bundler[gateway]'"


def test_the_server_side_imports_no_network() -> None:
    """All of format, target and cli comes in without the gateway's packages, and opens no socket."""
    watch = """
import importlib, pkgutil, sys
sockets = []
sys.addaudithook(lambda event, _: sockets.append(event) if event.startswith("socket.") else None)
import bundler.cli, bundler.format, bundler.target
for package in (bundler.cli, bundler.format, bundler.target):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)
banned = {"huggingface_hub", "urllib3", "httpx", "bundler.gateway"} & set(sys.modules)
print(sorted(banned), sockets, "bundler.target.install" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True)

    assert done.stdout == "[] [] True\n"
