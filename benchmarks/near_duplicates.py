"""Near-duplicates by the kind of their disguise: the share that is grouped with the vote that they were made of.

    python benchmarks/near_duplicates.py [DATA] [--write]

DATA is a folder of real votes (its lmsys and pairs folders are read); without it votes are made up. One vote of
each group is taken, up to 1,000, and disguised. `before` compares prompts alone: without case, punctuation and
spacing, equal or of a Jaccard index of 0.8; `after` is what splits do (votes.near_duplicates). Controls are pairs that are not the
same, where any share found is a false merge. Prints a table, then one line of JSON; --write keeps both under
benchmarks/results.
"""

import argparse
import json
import platform
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from itertools import combinations, cycle
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from tiebreak.votes import minhash, near_duplicates, synthetic
from tiebreak.votes.formats.readers import read_all
from tiebreak.votes.partial_matches import Parts

RESULT = Path(__file__).parent / "results" / "near-duplicates-cpu-202611"
COUNT = 1000
SEED = 0
SHORT = 48
"""Characters up to which one letter changes too many shingles."""


class Vote(NamedTuple):
    prompt: list[str | None]
    response_a: list[str | None]
    response_b: list[str | None]


Pairs = list[tuple[Vote, Vote]]
Disguise = Callable[[Random, str], str]


def inserted(signs: str) -> Disguise:
    """Puts one of the signs behind every fourth letter or so."""
    return lambda random, text: "".join(
        c + (random.choice(signs) if c.isalpha() and random.random() < 0.25 else "") for c in text
    )


def replaced(letters: str, others: str, share: float) -> Disguise:
    """Puts another letter in the place of a share of those that have one."""
    other = dict(zip(letters, others, strict=True))
    return lambda random, text: "".join(
        other[c] if c in other and random.random() < share else c for c in text
    )


def with_a_slip(random: Random, text: str) -> str:
    """The text with one of its letters changed."""
    at = random.choice([n for n, c in enumerate(text) if c.isalpha()])
    return (
        text[:at]
        + random.choice([c for c in "abcdefghijklmnopqrstuvwxyz" if c != text[at].lower()])
        + text[at + 1 :]
    )


SYSTEM = (
    "You are a helpful assistant.\n\n",
    "You are ChatGPT, a large language model. Answer as concisely as possible.\n\n",
    "Below is an instruction that describes a task. Write a response that completes the request.\n\n",
    "System: You are an expert. Think step by step, and be honest about what you do not know.\nUser: ",
)
MORE = ("Thanks! Can you explain that in more detail?", "Are you sure?", "Now as a table, please.")
FIRST_TURNS: dict[str, Disguise] = {
    "case, punctuation, spacing": lambda random, text: "  " + text.upper().replace(" ", "  ") + " !!",
    "zero width, soft hyphen, bidi": inserted("\u200b\u200d\u00ad\u2060\u202e\ufeff"),
    "variation selectors": inserted("\ufe0e\ufe0f\U000e0100"),
    "combining marks": inserted("\u0301\u0308\u0323\u0336\u0489"),
    "accents": replaced("aceinouyAEO", "áçéïñöúýÀÊÕ", 0.5),
    "Cyrillic look-alikes": replaced("aceopxyiABCEHKMOPTX", "асеорхуіАВСЕНКМОРТХ", 0.5),
    "Greek look-alikes": replaced("oviABEHIKOPTXYZ", "ονιΑΒΕΗΙΚΟΡΤΧΥΖ", 0.5),
    "full width": replaced("abcdefghijklmnop", "ａｂｃｄｅｆｇｈｉｊｋｌｍｎｏｐ", 0.5),
    "a system prompt in front": lambda random, text: random.choice(SYSTEM) + text,
}


def disguised(votes: Sequence[Vote], random: Random) -> dict[str, Pairs]:
    """Votes and what was made of them, by the kind of disguise."""

    def pairs(change: Callable[[Vote], list[str | None]], of: Sequence[Vote] = votes) -> Pairs:
        return [(v, Vote(change(v), [f"{n} one"], [f"{n} two"])) for n, v in enumerate(of)]

    short = [
        v for v in votes if len(v.prompt) == 1 and len(first(v)) <= SHORT and re.search("[a-z]{3}", first(v))
    ]
    made = {
        name: pairs(lambda v, change=change: [change(random, first(v)), *v.prompt[1:]])
        for name, change in FIRST_TURNS.items()
    }
    made["one more turn"] = pairs(lambda v: [*v.prompt, random.choice(MORE)])
    made[f"one letter, {SHORT} characters or less"] = pairs(lambda v: [with_a_slip(random, first(v))], short)
    two = list(zip(votes[::2], votes[1::2], strict=False))
    made["another prompt, the same answers"] = [(v, v._replace(prompt=w.prompt)) for v, w in two]
    made["another prompt, the same answers exchanged"] = [
        (v, Vote(w.prompt, v.response_b, v.response_a)) for v, w in two
    ]
    return made


def first(vote: Vote) -> str:
    return vote.prompt[0] or ""


REFUSALS = (
    "I'm sorry, but I can't assist with that request. Please ask me about something else, and I will gladly help.",
    "I apologize, but as an AI language model I cannot help you with this, because it may be against the rules.",
)
WORDS = (
    "दिन दान दीन",
    "काम कम कमी",
    "ไม ไม่ ไม้",
    "มา ม้า หมา",
    "கல் கால் கிள்",
    "눈 논 는",
    "か が",
    "كتب كتاب",
    "ספר סופר",
)
GREETINGS = "Hi", "Hello!", "Hello, how are you?"


def controls(votes: Sequence[Vote], random: Random) -> dict[str, Pairs]:
    """Pairs that are not the same, by what they have in common."""
    two = list(zip(votes[::2], votes[1::2], strict=False))

    def asked(texts: Iterable[tuple[str, str]]) -> Pairs:
        return [(Vote([a], [f"{n}"], [None]), Vote([b], [None], [f"{n}"])) for n, (a, b) in enumerate(texts)]

    def answered(a: str | None, b: str | None) -> Pairs:
        return [(Vote(v.prompt, [a], [b]), Vote(w.prompt, [b], [a])) for v, w in two]

    sums = [(*random.sample(range(1000), 3), *random.sample("+-*/%^=<>&|", 2)) for _ in two]
    return {
        "other vowel signs or letters": asked(
            pair for text in WORDS for pair in combinations(text.split(), 2)
        ),
        "another operator": asked(
            (f"What is {a} {x} {b}?", f"What is {a} {y} {b}?") for a, b, _, x, y in sums
        ),
        "another number": asked((f"What is {a} {x} {b}?", f"What is {a} {x} {c}?") for a, b, c, x, _ in sums),
        "answers Yes and No": answered("Yes.", "No."),
        "two refusals": answered(*REFUSALS),
        "no answers": answered(None, ""),
        "a greeting first": [
            (v._replace(prompt=[hello, *v.prompt]), w._replace(prompt=[hello, *w.prompt]))
            for (v, w), hello in zip(two, cycle(GREETINGS), strict=False)
        ],
    }


def before(votes: Sequence[Vote]) -> list[str]:
    """The group of each vote by its prompt alone."""
    prompts = (unicodedata.normalize("NFKC", "\n".join(t or "" for t in vote.prompt)) for vote in votes)
    texts = [re.sub(r"[\W_]+", " ", prompt.casefold()).strip() or prompt for prompt in prompts]
    names = list(dict.fromkeys(texts))
    number = {name: n for n, name in enumerate(names)}
    similar = minhash.similar_pairs(names, minhash.sketches(names), near_duplicates.THRESHOLD)
    rows = {"votes": np.array([number[text] for text in texts])}
    return near_duplicates.Prompts(names, rows, similar, {"votes": Parts()}).groups("votes")


def after(votes: Sequence[Vote]) -> list[str]:
    """The group of each vote as a split has it."""
    columns = zip(*votes, strict=True)
    batch = pa.record_batch(
        [pa.array(column, pa.list_(pa.string())) for column in columns], names=Vote._fields
    )
    return near_duplicates.compare_votes({"votes": [batch]}).groups("votes")


def share(pairs: Pairs, grouped: Callable[[Sequence[Vote]], list[str]]) -> float:
    """The share of pairs whose votes are in one group, all pairs being compared together."""
    of = grouped([vote for pair in pairs for vote in pair])
    return sum(a == b for a, b in zip(of[::2], of[1::2], strict=True)) / len(pairs)


def read(data: Path | None, count: int) -> list[Vote]:
    """Real votes, or made-up ones."""
    if data is None:
        tables = [synthetic.generate(count, seed=0)]
    else:
        files = [data / "lmsys" / "train.csv", *sorted((data / "pairs").glob("*.parquet"))]
        tables = [read_all([file])[0] for file in files]
    return [Vote(**row) for table in tables for row in table.select(Vote._fields).to_pylist()]


def sizes(names: Sequence[str]) -> dict[str, int]:
    counts = Counter(names).values()
    return {
        "groups": len(counts),
        "largest": max(counts),
        "votes_in_groups_of_two_and_more": sum(n for n in counts if n > 1),
    }


def measure(votes: Sequence[Vote], count: int) -> dict[str, Any]:
    """Both shares of each kind, and the groups of the votes as they are."""
    random = Random(SEED)
    asked = [vote for vote in votes if first(vote).strip()]
    one_of_each = [vote for _, vote in sorted(dict(zip(after(asked), asked, strict=True)).items())]
    taken = random.sample(one_of_each, min(count, len(one_of_each)))
    made = {"disguise": disguised(taken, random), "control": controls(taken, random)}
    rows = [
        {
            "of": of,
            "kind": kind,
            "pairs": len(pairs),
            "before": share(pairs, before),
            "after": share(pairs, after),
        }
        for of, kinds in made.items()
        for kind, pairs in kinds.items()
    ]
    return {"votes": len(asked), "before": sizes(before(asked)), "after": sizes(after(asked)), "rows": rows}


def table(found: dict[str, Any]) -> str:
    lines = ["| | pairs | found before | found after |", "|---|---|---|---|"]
    for row in found["rows"]:
        lines.append(
            f"| {row['of']}: {row['kind']} | {row['pairs']:,} | {row['before']:.1%} | {row['after']:.1%} |"
        )
    lines += [
        "",
        f"Of {found['votes']:,} votes as they are:",
        "",
        "| | groups | votes of the largest | votes in groups of two and more |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {when} | " + " | ".join(f"{n:,}" for n in found[when].values()) + " |"
        for when in ("before", "after")
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--small", action="store_true", help="50 made-up votes")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    count = 50 if arguments.small else COUNT
    found = measure(read(arguments.data, 4 * count), count)
    versions = {name: version(name) for name in ("numpy", "scipy", "pyarrow")} | {
        "python": platform.python_version()
    }
    text = table(found)
    line = json.dumps(
        {"benchmark": "near_duplicates", "made_up": arguments.data is None, "versions": versions, **found}
    )
    print(text, line, sep="\n\n")
    if arguments.write:
        RESULT.with_suffix(".md").write_text(f"# Near-duplicates\n\n{__doc__}\n{text}\n")
        RESULT.with_suffix(".json").write_text(line + "\n")


if __name__ == "__main__":
    main()
