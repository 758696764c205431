"""Faults of a page that HTML, a screen reader, a phone or a policy would find."""

import re
from collections import Counter
from html.parser import HTMLParser

VOID = {"meta", "br", "link", "img", "input", "hr"} | {"line", "polyline"}
"""Elements without an end; those of SVG end themselves."""


def faults(page: str) -> list[str]:
    """What is wrong with a page of `tiebreak.pages`; nothing, if it is as it should be."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    found = reader.faults + [f"{tag} is not closed" for tag in reader.open]
    found += [f"id {name} twice" for name, count in Counter(reader.ids).items() if count > 1]
    found += [f"caption {name!r} twice" for name, count in Counter(reader.captions).items() if count > 1]
    found += [f"link to {link}" for link in reader.links if link[:1] != "#" or link[1:] not in reader.ids]
    found += [
        f"{tag} {count} times" for tag in ("h1", "main", "head title") if (count := reader.count[tag]) != 1
    ]
    found += [f"from outside: {text}" for text in re.findall(r"url\(|@import", reader.text["style"])]
    if not page.startswith('<!doctype html>\n<html lang="en">'):
        found.append("no doctype or language")
    if "default-src 'none'; style-src 'unsafe-inline'" not in page:
        found.append("no policy")
    if not page.replace("\n", "").isprintable():
        found.append("characters that cannot be printed")
    return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.captions: list[str] = []
        self.count: Counter[str] = Counter()
        self.level = 0
        self.text: dict[str, str] = {}

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self._look_at(tag, given, f"{tag} at line {self.getpos()[0]}")
        self.count[f"head {tag}" if "head" in self.open else tag] += 1
        self.ids += [given["id"]] if "id" in given else []
        if tag not in VOID:
            self.open.append(tag)
            self.text[tag] = ""

    def _look_at(self, tag, given, where):
        match tag:
            case "th" if given.get("scope") not in ("row", "col"):
                self.faults.append(f"{where} has no scope")
            case "td" if self.text.get("tr") == "":
                self.faults.append(f"{where} begins a row")
            case "svg" if given.get("role") != "img" or not given.get("aria-label"):
                self.faults.append(f"{where} has no name")
            case "img" | "script" | "iframe" | "form" | "link":
                self.faults.append(f"{where} is none of ours")
            case "table" if self.last_start != ("div", "scroll", "0", "region"):
                self.faults.append(f"{where} does not scroll by itself")
            case "tbody" if self.count["caption"] != self.count["table"]:
                self.faults.append(f"{where} is of a table without a caption")
            case "a":
                self.links.append(given.get("href", ""))
            case "h1" | "h2" | "h3" | "h4":
                level = int(tag[1])
                if level > self.level + 1:
                    self.faults.append(f"{where} skips a level")
                self.level = level
        if any(name.startswith("on") or name in ("src", "srcdoc", "srcset") for name in given):
            self.faults.append(f"{where} fetches or runs")
        if tag in ("th", "td") and "tr" in self.text:
            self.text["tr"] += "cell"
        self.last_start = (tag, given.get("class"), given.get("tabindex"), given.get("role"))

    def handle_startendtag(self, tag, attributes):
        if tag not in VOID:
            self.faults.append(f"{tag} ends itself")
        self.count[tag] += 1

    def handle_data(self, data):
        for tag in self.open:
            self.text[tag] += data

    def handle_endtag(self, tag):
        if not self.open or self.open[-1] != tag:
            self.faults.append(f"</{tag}> at line {self.getpos()[0]} within {self.open[-1:]}")
            return
        self.open.pop()
        if tag == "caption":
            self.captions.append(self.text[tag])
        if tag in ("th", "h1", "h2", "h3", "caption", "title", "figcaption") and not self.text[tag].strip():
            self.faults.append(f"an empty {tag} at line {self.getpos()[0]}")
