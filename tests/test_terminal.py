"""What commands print: plain, wherever the text came from, on a terminal and off it."""

import io
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_text import HOSTILE
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from test_plain import TOKEN

from tiebreak import cli, terminal
from tiebreak.commands.table import show, show_findings, show_verdict
from tiebreak.console import Terminal
from tiebreak.engine.finding import Finding
from tiebreak.engine.progress import Display
from tiebreak.errors import TiebreakError

EVIL = "".join(HOSTILE.values()) + "[red]m[/red][link=https://evil.example]l[/link] :bomb: " + TOKEN


def require_plain(printed: str, lines: int) -> None:
    assert all(line.isprintable() for line in printed.splitlines()), printed
    assert len(printed.split("\n")) - 1 == lines, printed
    assert TOKEN not in printed


@pytest.mark.parametrize(
    ("say", "lines"),
    [
        (lambda: terminal.result(EVIL, EVIL), 2),
        (lambda: terminal.show_json({EVIL[:-37]: EVIL[:-37]}), 1),
        (
            lambda: show_verdict(
                {"use": True, "headline": EVIL, "findings": [{"holds": None, "text": EVIL}]}, EVIL
            ),
            2,
        ),
        (lambda: show_findings([Finding("error", EVIL, EVIL)], as_json=False), 2),
        (lambda: show([], as_json=False, nothing=EVIL), 1),
    ],
    ids=["results", "json", "verdict", "findings", "nothing"],
)
def test_foreign_text_on_stdout_is_plain(
    say: Callable[[], None], lines: int, capsys: pytest.CaptureFixture[str]
) -> None:
    say()
    require_plain(capsys.readouterr().out, lines)


def test_a_table_shows_markup_as_text_and_keeps_its_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "2000")
    show([{EVIL: EVIL, "n": 1}, {EVIL: "b", "n": 2}], as_json=False)
    out = capsys.readouterr().out
    require_plain(out, 3)
    assert "[red]m[/red][link=https://evil.example]l[/link] :bomb: [token]" in out


def test_only_the_last_column_of_a_table_has_several_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"task": "a\nb", "detail": "c\n\x1b[31md"}], as_json=False)
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [
        "task  detail", "a b   c", "      \\x1b[31md",
    ]  # fmt: skip


def test_a_terminal_gets_rich_s_own_sequences_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    console = Terminal()
    table = Table(EVIL, title=EVIL)
    table.add_row(EVIL)
    console.print(table, EVIL, Text(EVIL, style="red"))
    with Progress(console=console) as bars:
        bars.add_task(EVIL.replace("[", "("))
    printed = stream.getvalue()
    assert "\x1b[31m" in printed
    left = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", printed)
    assert all(line.isprintable() for line in re.split(r"[\r\n]", left)), left
    assert "\x1b[2J" not in printed
    assert "\x1b]" not in printed


def test_progress_and_ends_of_tasks_are_plain(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(Terminal(stderr=True), 2)
    display.log("a", TiebreakError(EVIL).args[0])
    display.progress("a", TiebreakError(EVIL).args[0])
    display.end("a", f"error: {TiebreakError(EVIL)}")
    require_plain(capsys.readouterr().err, 3)


def test_what_others_print_and_log_is_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    with terminal.guarded():
        print(HOSTILE["link"], HOSTILE["half"], TOKEN)
        sys.stderr.writelines([HOSTILE["clipboard"], HOSTILE["override"]])
    record = logging.LogRecord("tiebreak", logging.INFO, "", 1, "read %s", (EVIL,), None)
    terminal.note(terminal._LineFormatter().format(record))
    seen = capsys.readouterr()
    require_plain(seen.out, 1)
    assert "\x1b" not in seen.err + seen.out
    assert TOKEN not in seen.err
    print(HOSTILE["colour"])
    assert "\x1b" in capsys.readouterr().out, "the guard is gone with its block"


def test_names_of_files_and_keys_in_errors_are_plain(tiebreak, tmp_path: Path) -> None:
    name = EVIL.replace("/", "|").replace("\x00", "")[:90]
    for arguments in (
        ("check", tmp_path / name),
        ("plan", tmp_path / f"{name}.yaml"),
        (name,),
        ("run", "--" + name),
    ):
        code, out, err = tiebreak(*arguments)
        assert (code, out) == (2, "")
        assert not re.search(
            r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", re.sub(r"\x1b\[\d*m", "", err)
        )


def test_a_fault_tells_no_token(tiebreak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "secret-of-another-kind"
    monkeypatch.setenv("HF_TOKEN", secret)

    def fail(*_: object, **__: object) -> None:
        raise ValueError(f"refused {secret} and {TOKEN} \x1b]52;c;x\x07")

    monkeypatch.setattr("tiebreak.commands.init.init_recipe", fail)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code, _, err = tiebreak("init", tmp_path / "new")
    assert code == cli.UNEXPECTED
    (log,) = tmp_path.glob("tiebreak-*.log")
    monkeypatch.setenv("TIEBREAK_DEBUG", "1")
    with pytest.raises(ValueError, match="refused") as raised:
        tiebreak("init", tmp_path / "new")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    sys.excepthook(raised.type, raised.value, raised.tb)
    for text in (err, log.read_text(), sys.stderr.getvalue()):
        assert "refused [token] and [token]" in text
        assert "\x1b" not in text
        assert secret not in text
        assert TOKEN not in text


PRINTING = re.compile(r"(?<![\w.])print\(|\bConsole\(|std(out|err)\.write|\becho\(|StreamHandler|basicConfig")


def test_all_output_passes_one_place(repository: Path) -> None:
    source = repository / "src" / "tiebreak"
    found = {
        str(path.relative_to(source)) for path in source.rglob("*.py") if PRINTING.search(path.read_text())
    }
    assert found == {"terminal.py"}
