"""Keys from a file or the environment, and where a server may listen without."""

import pytest

from tiebreak.errors import TiebreakError
from tiebreak.serve import keys
from tiebreak.serve.keys import Keys

KEY = "0123456789abcdef"


def test_keys_of_a_file_come_before_those_of_the_environment(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# ours\n{KEY}\n\n  {KEY}2  \n")
    found = keys.read(file, {keys.VARIABLE: "fedcba9876543210"})
    assert found == Keys.of(KEY, KEY + "2")
    assert keys.read(None, {keys.VARIABLE: KEY}) == Keys.of(KEY)
    assert not keys.read(None, {})
    assert KEY not in repr(found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"short\n", "a key that is not 16 or more ASCII characters without spaces"),
        (b"a key with spaces in it\n", "a key that is not 16 or more ASCII"),
        (b"# none\n", "holds no key"),
        (b"\xff\xfe\n", "cannot be read: it is not text"),
    ],
)
def test_files_of_keys_that_are_none(tmp_path, content, message):
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(TiebreakError, match=message):
        keys.read(tmp_path / "keys", {})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(TiebreakError, match="cannot be read: No such file or directory"):
        keys.read(tmp_path / "keys", {})


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_this_machine_needs_no_key(host):
    keys.require_key(host, Keys(), without_key=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_others_need_one_unless_asked_twice(host):
    with pytest.raises(TiebreakError, match=f"--host {host} lets others connect, and there is no key"):
        keys.require_key(host, Keys(), without_key=False)
    keys.require_key(host, Keys(), without_key=True)
    keys.require_key(host, Keys.of(KEY), without_key=False)
