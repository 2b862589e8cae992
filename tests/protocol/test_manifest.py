import copy
import hashlib
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.protocol.errors import BadSignature, GossamerError, InvalidManifest, UnknownName
from gossamer.protocol.identity import Identity
from gossamer.protocol.manifest import Group, Manifest, compose, manifest_of, parse, sign_text

OWNER = Identity(b"\x01" * 32)
STRANGER = Identity(b"\x02" * 32)
TABLES: dict[str, Any] = {
    "run": {"name": "first run", "seed": 1, "steps": 100, "created": "2026-01-01T00:00:00Z"},
    "task": {"name": "chars", "fingerprint": "0" * 64, "options": {"context": 128}},
    "method": {"name": "demo", "options": {"k": 32, "beta": 0.95, "combine": "normclip", "exact": True}},
    "schedule": {"lr": 0.001},
    "data": {"batch_size": 8},
}


def changed(path: str, value: object) -> dict[str, Any]:
    tables = copy.deepcopy(TABLES)
    *above, key = path.split(".")
    table = tables
    for name in above:
        table = table.setdefault(name, {})
    table[key] = value
    return tables


def without(path: str) -> dict[str, Any]:
    tables = copy.deepcopy(TABLES)
    *above, key = path.split(".")
    table = tables
    for name in above:
        table = table[name]
    del table[key]
    return tables


def manifest() -> Manifest:
    return manifest_of(TABLES)


def test_a_composed_manifest_reads_as_it_was() -> None:
    signed = parse(compose(manifest(), OWNER))

    assert signed.manifest == manifest()
    assert signed.owner == OWNER.peer_id


def test_options_keep_their_types() -> None:
    options = parse(compose(manifest(), OWNER)).manifest.method.options

    assert {name: type(value) for name, value in options.items()} == {
        "k": int,
        "beta": float,
        "combine": str,
        "exact": bool,
    }


def test_the_run_id_is_the_hash_of_what_is_signed() -> None:
    text = compose(manifest(), OWNER)

    body = text[: text.index("[signature]")]
    assert parse(text).run_id == hashlib.sha256(body.encode()).hexdigest()[:32]


def test_another_setting_is_another_run() -> None:
    other = manifest_of(changed("run.seed", 2))

    assert parse(compose(other, OWNER)).run_id != parse(compose(manifest(), OWNER)).run_id


@given(st.text(max_size=100))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_no_option_can_imitate_the_signature_table(text: str) -> None:
    tricky = manifest_of(changed("task.options.text", text + "\n[signature]\n"))

    assert parse(compose(tricky, OWNER)).manifest.task.options["text"] == text + "\n[signature]\n"


@pytest.mark.parametrize(
    ("group", "reason"),
    [
        ({"strict": True, "backup": "dynamic"}, "strict waits for everybody"),
        ({"strict": True, "backup": "fixed", "n_backup": 1}, "strict waits for everybody"),
        ({"backup": "fixed"}, "fixed needs 1 or more"),
        ({"backup": "dynamic", "n_backup": 1}, "fixed needs 1 or more, others 0"),
    ],
)
def test_backup_that_contradicts_itself_or_strict_is_refused(group: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidManifest, match=reason):
        manifest_of(changed("group", group))


def test_backup_is_part_of_the_manifest() -> None:
    chosen = parse(compose(manifest_of(changed("group", {"backup": "fixed", "n_backup": 2})), OWNER)).manifest.group

    assert (chosen.backup, chosen.n_backup) == ("fixed", 2)


def test_a_run_that_does_not_use_the_asynchronous_mode_has_the_text_it_had_before_there_was_one() -> None:
    plain = manifest_of(changed("pipeline.stages", 2))
    said = manifest_of({**TABLES, "pipeline": {"stages": 2, "mode": "synchronous"}})
    other = manifest_of({**TABLES, "pipeline": {"stages": 2, "mode": "stash"}})

    assert compose(plain, OWNER) == compose(said, OWNER)
    assert "mode" not in compose(plain, OWNER)
    assert parse(compose(other, OWNER)).manifest == other
    with pytest.raises(InvalidManifest, match="set stages to 2 or more"):
        manifest_of(changed("pipeline.mode", "stash"))


def test_a_run_that_does_not_say_where_it_is_cut_has_the_text_it_had_before_one_could() -> None:
    plain = manifest_of(changed("pipeline.stages", 3))
    said = manifest_of({**TABLES, "pipeline": {"stages": 3, "starts": [0, 1, 5]}})

    assert "starts" not in compose(plain, OWNER)
    assert parse(compose(said, OWNER)).manifest.pipeline.starts == [0, 1, 5]


@pytest.mark.parametrize("starts", [[0, 1], [1, 2, 3], [0, 2, 1], [0, 1, 1], [-1, 0, 1], [0, 1, 2, 3]])
def test_a_cut_that_is_none_is_refused(starts: list[int]) -> None:
    with pytest.raises(InvalidManifest, match="name one layer for each of 3 stages"):
        manifest_of({**TABLES, "pipeline": {"stages": 3, "starts": starts}})


def test_a_manifest_with_any_character_changed_is_refused() -> None:
    text = compose(manifest(), OWNER)

    for i in range(len(text) - 1):
        with pytest.raises(GossamerError):
            parse(text[:i] + chr(ord(text[i]) ^ 1) + text[i + 1 :])


def test_a_manifest_changed_after_signing_says_so() -> None:
    text = compose(manifest(), OWNER).replace("steps = 100", "steps = 900")

    with pytest.raises(BadSignature, match=f"changed after {OWNER.peer_id} signed it"):
        parse(text)


def test_nobody_signs_in_anothers_name() -> None:
    text = compose(manifest(), STRANGER).replace(STRANGER.peer_id, OWNER.peer_id)

    with pytest.raises(BadSignature):
        parse(text)


def test_a_manifest_written_by_hand_keeps_its_comments() -> None:
    body = compose(manifest(), OWNER).split("[signature]")[0]

    text = sign_text("# our first try\n" + body, OWNER)

    assert parse(text).manifest == manifest()
    assert text.startswith("# our first try\n")


def test_a_signed_manifest_is_not_signed_twice() -> None:
    with pytest.raises(InvalidManifest, match="remove that table"):
        sign_text(compose(manifest(), OWNER), OWNER)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends without a [signature]"),
        ("[run]\nname = 'x'\n", "ends without a [signature]"),
        ("[run\n[signature]\nowner = 'x'\nsignature = ''\n", "is not TOML"),
        ("[run]\n[signature]\nowner = 'x'\n", "owner and signature only"),
        ("[run]\n[signature]\nowner = 'x'\nsignature = ''\n[extra]\n", "owner and signature only"),
        ("[run]\n[signature]\nowner = 'x'\nsignature = ''\n", "cannot be read: 'x' is not an Ed25519 peer id"),
        (f"[run]\n[signature]\nowner = '{OWNER.peer_id}'\nsignature = 'xy'\n", "cannot be read"),
        ("#" * 70_000, "more than 65536 bytes"),
        ("x = " + "[" * 5000 + "\n[signature]\n", "nested too deeply"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        parse(text)

    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("run.stesp", "unknown key of the manifest's [run] 'stesp': did you mean 'steps'?"),
        ("schedul", "unknown table of the manifest 'schedul': did you mean 'schedule'?"),
        ("limits.keep_checkpoint", "did you mean 'keep_checkpoints'?"),
    ],
)
def test_a_misspelt_key_gets_the_nearest_known_one(path: str, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        manifest_of(changed(path, 1))

    assert message in str(caught.value)


def test_a_misspelt_key_is_named_rather_than_the_missing_one() -> None:
    tables = without("run.steps")
    tables["run"]["stesp"] = 100

    with pytest.raises(UnknownName, match="did you mean 'steps'"):
        manifest_of(tables)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("task.name", "chras", "unknown task 'chras': did you mean 'chars'?"),
        ("schedule.kind", "cosin", "unknown schedule.kind 'cosin': did you mean 'cosine'?"),
        ("admission.policy", "closed", "unknown admission.policy 'closed'"),
        ("group.on_split", 3, "unknown group.on_split '3'"),
    ],
)
def test_a_misspelt_choice_gets_the_known_ones(path: str, value: object, message: str) -> None:
    with pytest.raises(UnknownName) as caught:
        manifest_of(changed(path, value))

    assert message in str(caught.value)


@pytest.mark.parametrize("path", ["run", "task", "method", "schedule", "data", "run.steps", "task.fingerprint"])
def test_a_missing_key_is_named(path: str) -> None:
    with pytest.raises(InvalidManifest, match=f"the manifest lacks {path}: add"):
        manifest_of(without(path))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("run", 3),
        ("run.name", ""),
        ("run.name", "a\nb"),
        ("run.seed", -1),
        ("run.seed", True),
        ("run.steps", 0),
        ("run.steps", 10**10),
        ("run.steps", "100"),
        ("run.steps", 1.5),
        ("run.protocol_version", 2),
        ("task.fingerprint", "0" * 63),
        ("task.fingerprint", "G" * 64),
        ("method.name", "De Mo"),
        ("method.options.x", [1]),
        ("method.options.x", {"y": 1}),
        ("method.options.x", math.inf),
        ("method.options.x", "a" * 8193),
        ("method.options.x", 1 << 63),
        ("method.options.a b", 1),
        ("method.options", {f"a{i}": i for i in range(65)}),
        ("schedule.lr", 0),
        ("schedule.lr", math.nan),
        ("schedule.lr", math.inf),
        ("schedule.warmup_steps", 101),
        ("schedule.floor", 1.1),
        ("data.batch_size", 0),
        ("data.batch_size", 1 << 21),
        ("group.start_peers", 33),
        ("group.quorum_fraction", 0),
        ("group.quorum_fraction", 1.01),
        ("group.peers_max", 0),
        ("limits.max_payload_bytes", 1 << 40),
        ("limits.checkpoint_every_steps", 0),
        ("limits.keep_checkpoints", 0),
    ],
)
def test_a_value_out_of_bounds_is_refused_in_one_line(path: str, value: object) -> None:
    with pytest.raises(InvalidManifest) as caught:
        manifest_of(changed(path, value))

    message = str(caught.value)
    assert path.rsplit(".", maxsplit=1)[-1] in message
    assert "\n" not in message
    assert len(message) < 250


@pytest.mark.parametrize("name", ["chars", "digits", "fashion", "tasks:Mine", "my.own.tasks:Mine"])
def test_a_task_is_one_of_ours_or_somebodys_module(name: str) -> None:
    assert manifest_of(changed("task.name", name)).task.name == name


@pytest.mark.parametrize("name", ["os.system('x'):y", "a:b:c", ":b", "a:", "../a:b", "a-b:c"])
def test_a_task_that_is_no_python_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownName, match="module:attribute"):
        manifest_of(changed("task.name", name))


def test_a_manifest_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        manifest().run.steps = 5


@pytest.mark.parametrize(
    ("fraction", "n_roster", "expected"),
    [(0.5, 1, 1), (0.5, 4, 2), (0.5, 5, 3), (1.0, 7, 7), (0.01, 3, 1), (0.55, 100, 55)],
)
def test_the_quorum_is_rounded_up(fraction: float, n_roster: int, expected: int) -> None:
    assert Group(quorum_fraction=fraction).contributions_min(n_roster) == expected


def test_by_default_only_the_smallest_groups_fork() -> None:
    assert [Group().forks(n) for n in (1, 2, 3)] == [True, True, False]
    assert Group(on_split="fork").forks(9)
    assert not Group(on_split="pause").forks(2)
