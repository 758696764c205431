"""Texts that do harm on a terminal or a page that shows them as they are."""

HOSTILE = {
    "colour": "\x1b[31mred\x1b[0m",
    "cleared screen": "\x1b[2J\x1b[H",
    "link": "\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\",
    "clipboard": "\x1b]52;c;cm0gLXJm\x07",
    "title": "\x1b]0;owned\x07",
    "C1": "\x9b31m\x9d0;x\x9c",
    "bell and backspace": "ok\x07\x08\x08no",
    "override": "a\u202egpj.exe",
    "isolate": "\u2066\u2067a\u2069",
    "carriage return": "error: x\rall is well",
    "lines": "x\n[5/5] evaluate/report: done\r\ny\u2028z\x85\x0b\x0c",
    "unseen": "a\u200bb\ufeff\u2060\U000e0041",
    "half": "\udcff.csv",
    "delete": "\x7f",
}
