"""A video's name is safe, unique, and the same every time."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kling_async.rules.naming import (
    DIGEST_DIGITS,
    LONGEST_STEM,
    collision_key,
    distinct_place,
    distinct_stem,
    file_stem,
    place_fold,
    place_of,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=260)
AWKWARD = st.text(
    st.sampled_from("aAéE\u0301ß\u017f\u0131İ日Ω~./\\: -_0123456789abcdefCONP\u200d\u202e\ud800\U0001f600"), max_size=30
)
KEYS = st.one_of(ANY_TEXT, AWKWARD)
DIGEST = re.compile(rf"~[0-9a-f]{{{DIGEST_DIGITS}}}\Z")

PLAIN = [
    "mona_lisa",
    "KEY.1",
    "日本",
    "Zoë (2) - final, v1.0",
    "b1946ac92492d2347c6235b4d2611184",
    "test",
    "train_1",
    "R&D @home #3 = a+b",
    "ключ",
    "हिन्दी",
    "COM",
    "CONSOLE",
    "a" * LONGEST_STEM,
]

UNSAFE = [
    "",
    ".",
    "..",
    "../../etc/passwd",
    ".hidden",
    "-rf",
    " padded ",
    "trailing.",
    "a/b",
    "a\\b",
    'q:"<>|?*',
    "new\nline",
    "nul\0byte",
    "CON",
    "nul.txt",
    "Aux .tar",
    "com1",
    "LPT³",
    "$(reboot)`x`",
    "tab\there",
    "\u202egnp.exe",
    "zero\u200bwidth",
    "\u0301mark first",
    "filler\u3164",
    "e\u0301",
    "\ud800",
    "smile\U0001f600",
    "x~1a2b3c4d",
    "x~0123456789abcdef",
    "a" * (LONGEST_STEM + 1),
    "CON" + " " * 300 + "x",
]


@pytest.mark.parametrize("key", PLAIN)
def test_a_plain_key_names_its_file(key: str) -> None:
    """People find the video of a plain key without a table."""
    assert file_stem(key) == key


@pytest.mark.parametrize("key", UNSAFE)
def test_an_unsafe_key_is_told_apart_by_a_digest(key: str) -> None:
    """Whatever was replaced, the digest of the key stays."""
    assert DIGEST.search(file_stem(key))
    assert file_stem(key) == distinct_stem(key)


@given(KEYS)
@example("CON" + " " * 300)
@example("\0" * 500)
def test_a_name_can_be_used_anywhere(key: str) -> None:
    """No separator, reserved or invisible character, hidden name or option; encodable, within the length."""
    for stem in (file_stem(key), distinct_stem(key)):
        assert 1 <= len(stem.encode("utf-8")) <= LONGEST_STEM
        assert not set(stem) & set('/\\<>:"|?*$`!;%^[]{}')
        assert not any(
            unicodedata.category(letter)[0] in "CZS" for letter in stem.translate({ord(c): None for c in " =+~"})
        )
        assert stem[0] not in "-. ~"
        assert stem[-1] not in ". "
        assert unicodedata.category(stem[0])[0] != "M"
        assert not re.match(r"(?i)(con|prn|aux|nul|(com|lpt)[0-9¹²³]) *(\.|$)", f"{stem}.mp4")
        assert unicodedata.is_normalized("NFC", stem)


@given(KEYS, KEYS)
@example("a/b", "a_b")
@example("a/b", "a:b")
@example("é", "e\u0301")
@example("", "_")
@example("x", "x ")
def test_two_keys_never_share_a_name(one: str, other: str) -> None:
    """Neither plain nor made safe, nor one of each."""
    assume(one != other)
    assert file_stem(one) != file_stem(other)
    assert distinct_stem(one) != distinct_stem(other)
    assert file_stem(one) != distinct_stem(other)


@given(KEYS)
@example("x/y")
def test_a_key_cannot_pose_as_the_name_of_another(key: str) -> None:
    """A key that looks like a name made safe gets a digest of its own."""
    made = distinct_stem(key)
    assert file_stem(made) not in {made, key}


@given(KEYS)
def test_a_plain_name_stays_as_it_is(key: str) -> None:
    """Naming a name again changes nothing, unless it had to be made safe."""
    stem = file_stem(key)
    if not DIGEST.search(stem):
        assert stem == key
        assert file_stem(stem) == stem


@given(st.text("é日😀x", min_size=100, max_size=300))
def test_a_long_key_is_cut_between_characters(key: str) -> None:
    """What is left of a long key is its beginning, and no half of a character."""
    letters = distinct_stem(key).rpartition("~")[0]
    assert re.sub("😀+", "_", key).startswith(letters)


@given(KEYS)
def test_names_that_differ_in_case_or_form_share_a_collision_key(key: str) -> None:
    """What a case-insensitive or normalising file system takes for one name, we take for one too."""
    stem = file_stem(key)
    same = {
        stem,
        stem.lower(),
        stem.upper(),
        stem.casefold(),
        *(unicodedata.normalize(f, stem) for f in ("NFC", "NFD")),
    }
    assert {collision_key(name) for name in same} == {collision_key(stem)}


@given(KEYS)
@example("\u1d2c")
@example("\u03d2")
def test_a_collision_key_is_its_own_collision_key(key: str) -> None:
    """Folding is complete after one call."""
    assert collision_key(collision_key(key)) == collision_key(key)


@given(KEYS, KEYS)
@example("Straße", "STRASSE")
@example("Mona", "mona")
@example("K", "\u212a")
def test_distinct_names_differ_on_every_file_system(one: str, other: str) -> None:
    """The digest keeps two keys apart even where case and form do not count."""
    assume(one != other)
    assert collision_key(distinct_stem(one)) != collision_key(distinct_stem(other))
    assert collision_key(distinct_stem(one)) != collision_key(other if file_stem(other) == other else "")


@pytest.mark.parametrize(("one", "other"), [("Mona", "mona"), ("Straße", "STRASSE"), ("ﬁn", "fin"), ("ΌΣΟΣ", "όσος")])
def test_a_clash_is_seen(one: str, other: str) -> None:
    """Two plain keys that would overwrite each other on macOS or Windows can be found before it happens."""
    assert file_stem(one) != file_stem(other)
    assert collision_key(file_stem(one)) == collision_key(file_stem(other))


def test_names_do_not_change_between_versions() -> None:
    """A folder that was begun with an older version is found again."""
    assert [file_stem(key) for key in ("a/b", "CON", "", "x~1a2b3c4d")] == [
        "a_b~c14cddc033f64b9d",
        "_CON~a3dbc4b644a9a2c5",
        "_~e3b0c44298fc1c14",
        "x_1a2b3c4d~1fbd6aa6a10e4089",
    ]


def test_many_long_keys_that_begin_alike_stay_apart() -> None:
    """Links as keys, cut to the same beginning, are told apart by enough digits."""
    start = "https://example.com/" + "a" * 200
    assert len({file_stem(f"{start}/{number}") for number in range(20_000)}) == 20_000


@given(st.text(st.characters(max_codepoint=127)))
def test_plain_text_folds_as_any_other(text: str) -> None:
    """What is told at once is what would be found letter by letter."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFD", text).upper().casefold())
    assert collision_key(text) == folded


PLACES = st.builds(lambda key, folders: place_of(key, folders=folders), KEYS, st.booleans())


@given(PLACES, PLACES)
@example("ab/cd.mp4", "cd/ab.mp4")
@example("ab/a.mp4", "AB/A.mp4")
@example("ab/a.mp4", "a.mp4")
def test_two_places_meet_where_folder_and_name_do(one: str, other: str) -> None:
    """Nowhere else: each folder has its own names."""
    parts = [[collision_key(part) for part in place.removesuffix(".mp4").split("/")] for place in (one, other)]
    assert (place_fold(one) == place_fold(other)) == (parts[0] == parts[1])


def test_places_in_folders_fold_in_the_order_of_their_keys() -> None:
    """So that an index of them grows at its end."""
    keys = [f"row-{number:05}" for number in range(500)]
    folds = [place_fold(place_of(key, folders=True)) for key in keys]
    assert folds == sorted(folds)
    assert len({fold.partition("//")[2] for fold in folds}) > 100
    assert place_fold(distinct_place("ab/Cat.mp4", "Cat")) == f"{distinct_stem('Cat').lower()}//ab"
