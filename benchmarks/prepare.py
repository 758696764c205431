"""Votes to token ids in both orders: this package against the published way, and against the floor.

    python benchmarks/prepare.py [DATA] [--votes 3000] [--write]

DATA (or the environment variable TIEBREAK_TEST_DATA) is a folder that holds lmsys/train.csv and
pairs/*.parquet; without it the votes are synthetic. The tokenizer is trained on the same texts (byte-level
BPE, 32,000 tokens), since a published one cannot be assumed here. All arms prepare the same votes in one run:

    published   row by row, as the winning recipe's script does it, in two passes over each of the two orders:
                first strings, where each text is encoded to see whether the whole fits, and if not the longer
                answer loses one token at a time and what is left is decoded; then the strings are encoded
    ours        tokenize() once, then row() for both orders
    floor       tokenizers encodes each text once, in batches; nothing is done with the ids

texts_per_second counts prompt and both answers of each vote once. An arm's figure is its best of three rounds
in turn (the published arm runs once); speedup is published over ours, over_floor ours over floor, in time.
cpu counts the processor time of all threads, which other work on the machine leaves alone. The last table is
what each truncation keeps: of all tokens, and how many texts of rows that are cut keep their last ten tokens.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tiebreak.model import tiny
from tiebreak.recipe.schema import Prompt
from tiebreak.tokens.prompt import ENCODE_CHUNK, TokenizedVotes, tokenize
from tiebreak.votes import synthetic
from tiebreak.votes.formats.readers import read_all
from tiebreak.votes.schema import SCHEMA
from tiebreak.votes.splits import subset

MAX_TOKENS = 1024
FRAME_TOKENS = 30
"""Room that the published way leaves for the text around prompt and answers."""
VOCABULARY = 32_000
ROUNDS = 3
SEED = 0
RESULT = Path(__file__).parent / "results" / "prepare-cpu-202611"
COLUMNS = ("prompt", "response_a", "response_b")


def load_votes(data: Path | None, count: int) -> tuple[pa.Table, str]:
    """Votes drawn from the real files, or synthetic ones, and where they are from."""
    if data is None or not data.is_dir():
        return synthetic.generate(count, SEED).select(SCHEMA.names), "synthetic"
    files = [data / "lmsys" / "train.csv", *sorted((data / "pairs").glob("*.parquet"))]
    return subset(read_all(files)[0], count, SEED), "real"


def joined(votes: pa.Table, column: str) -> list[str]:
    return ["\n".join(turn or "" for turn in turns) for turns in votes[column].to_pylist()]


def train_tokenizer(votes: pa.Table, folder: Path) -> PreTrainedTokenizerBase:
    texts = [text for column in COLUMNS for text in joined(votes, column)]
    tiny.make(folder, "llama", texts, SEED, vocab=VOCABULARY)
    return AutoTokenizer.from_pretrained(folder)


def published(votes: pa.Table, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    rows = []
    for vote in votes.to_pylist():
        prompt, a, b = ("\n".join(turn or "" for turn in vote[column]) for column in COLUMNS)
        rows += [_published_row(tokenizer, prompt, *answers) for answers in ((a, b), (b, a))]
    return rows


def _published_row(tokenizer: PreTrainedTokenizerBase, prompt: str, first: str, second: str) -> list[int]:
    def encode(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    question, one, other = encode(prompt), encode(first), encode(second)
    room = MAX_TOKENS - 1 - FRAME_TOKENS
    if len(question) + len(one) + len(other) > room:
        question = question[:256]
        while len(question) + len(one) + len(other) > room:
            (one if len(one) >= len(other) else other).pop()
        prompt, first, second = (tokenizer.decode(piece) for piece in (question, one, other))
    whole = f'User question:\n"""{prompt}"""\nAnswer A:\n"""{first}"""\nAnswer B:\n"""{second}"""\n'
    return [*encode(whole)[: MAX_TOKENS - 1], tokenizer.eos_token_id]


def ours(votes: pa.Table, tokenizer: PreTrainedTokenizerBase) -> list[Any]:
    tokens = tokenize(votes, tokenizer, Prompt())
    return [tokens.row(vote, order, MAX_TOKENS) for vote in range(len(tokens)) for order in (0, 1)]


def floor(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> None:
    backend = tokenizer.backend_tokenizer
    for start in range(0, len(texts), ENCODE_CHUNK):
        backend.encode_batch_fast(texts[start : start + ENCODE_CHUNK], add_special_tokens=False)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and seconds of processor time of all threads."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def best(arms: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    rounds = [{name: timed(work) for name, work in arms.items()} for _ in range(ROUNDS)]
    return {name: (min(r[name][0] for r in rounds), min(r[name][1] for r in rounds)) for name in arms}


def kept(votes: pa.Table, tokenizer: PreTrainedTokenizerBase) -> Iterator[dict[str, Any]]:
    """What each truncation keeps at each budget: of all tokens, and of last turns."""
    for truncation in ("published", "balanced"):
        tokens = tokenize(votes, tokenizer, Prompt(truncation=truncation))
        whole = sum(int(text.lengths.sum()) for text in (tokens.prompts, *tokens.answers))
        for budget in (512, MAX_TOKENS, 2000):
            lengths = [tokens.length(vote, budget) - tokens.frame_tokens for vote in range(len(tokens))]
            yield {
                "truncation": truncation,
                "max_tokens": budget,
                "tokens": round(sum(lengths) / whole, 4),
                "ends": round(_ends_kept(tokens, tokenizer, budget), 4),
            }


def _ends_kept(tokens: TokenizedVotes, tokenizer: PreTrainedTokenizerBase, budget: int) -> float:
    """Share of texts whose last ten tokens are in the row, among rows that are cut."""
    cut = [v for v in range(len(tokens)) if tokens.length(v, 1 << 30) > budget]
    found = total = 0
    for vote in cut:
        row = tokens.row(vote, 0, budget).tobytes()
        for text in (tokens.prompts, *tokens.answers):
            found += text[vote][-10:].tobytes() in row
            total += 1
    return found / max(total, 1)


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("data", type=Path, nargs="?", default=os.environ.get("TIEBREAK_TEST_DATA"))
    parser.add_argument("--votes", type=int, default=3000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    votes, origin = load_votes(arguments.data and Path(arguments.data), arguments.votes)
    with TemporaryDirectory(prefix="tiebreak-prepare-") as name:
        report(votes, origin, Path(name), arguments.write)


def report(votes: pa.Table, origin: str, folder: Path, keep: bool) -> None:
    tokenizer = train_tokenizer(votes, folder / "model")
    texts = [text for column in COLUMNS for text in joined(votes, column)]
    arms: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(votes, tokenizer),
        "floor": lambda: floor(texts, tokenizer),
    }
    floor(texts[:1000], tokenizer)
    seconds = best(arms) | {"published": timed(lambda: published(votes, tokenizer))}
    rates = {name: len(texts) / wall for name, (wall, _) in seconds.items()}
    lines = ["| arm | texts a second | seconds | cpu seconds |", "|---|---|---|---|"]
    lines += [f"| {n} | {rates[n]:,.0f} | {wall:.2f} | {cpu:.2f} |" for n, (wall, cpu) in seconds.items()]
    keeps = list(kept(votes, tokenizer))
    lines += [
        "",
        "| truncation | max tokens | tokens kept | ends kept |",
        "|---|---|---|---|",
    ]
    lines += [
        f"| {k['truncation']} | {k['max_tokens']} | {k['tokens']:.1%} | {k['ends']:.1%} |" for k in keeps
    ]
    line = {
        "benchmark": "prepare",
        "votes": len(votes),
        "origin": origin,
        "megabytes": round(sum(map(len, texts)) / 1e6, 2),
        "threads": os.cpu_count(),
        "versions": {n: version(n) for n in ("tokenizers", "transformers")}
        | {"python": platform.python_version()},
        "texts_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "cpu_seconds": {name: round(cpu, 3) for name, (_, cpu) in seconds.items()},
        "kept": keeps,
        "speedup": round(rates["ours"] / rates["published"], 2),
        "speedup_cpu": round(seconds["published"][1] / seconds["ours"][1], 2),
        "over_floor": round(rates["floor"] / rates["ours"], 3),
        "over_floor_cpu": round(seconds["ours"][1] / seconds["floor"][1], 3),
    }
    text = "\n".join(lines)
    print(text, json.dumps(line), sep="\n\n")
    if keep:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.with_suffix(".md").write_text(f"# Preparing votes\n\n{__doc__}\n{text}\n")
        RESULT.with_suffix(".json").write_text(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
