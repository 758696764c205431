"""Gather the pages of the site in build/pages: `python docs/build.py`. `make docs` does so and builds it.

Pages stay where they read well in the repository, and so do their links. The site holds those of docs, of benchmarks/results, the few of
the repository's own folder, and the notebooks as pages. A link to one of them is turned into the site's; one to any other file
of the repository becomes its name.
"""

import os
import re
import shutil
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = REPOSITORY / "build" / "pages"
OWN = ("CHANGELOG.md", "CODE_OF_CONDUCT.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages of the repository's own folder that the site has; README.md is for those who come by the repository."""

BLOCK = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(!?)\[([^]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def sources() -> dict[Path, Path]:
    """Every file of the site: where it is in the repository, and its place on the site."""
    docs = [path for path in (REPOSITORY / "docs").rglob("*") if path.is_file()]
    shown = [path for path in docs if path.suffix in (".md", ".json", ".png", ".css")]
    found = {path: path.relative_to(REPOSITORY / "docs") for path in shown}
    notebooks = sorted((REPOSITORY / "docs" / "notebooks").glob("*.py"))
    found |= {path: Path("notebooks") / f"{path.stem}.md" for path in notebooks}
    results = sorted((REPOSITORY / "benchmarks" / "results").glob("*.md"))
    found |= {path: Path("benchmarks") / path.name for path in results}
    return found | {REPOSITORY / name: Path("project") / name.lower() for name in OWN}


def page(source: Path, places: dict[Path, Path]) -> str:
    """The text of a page, with the links of the site."""
    text = _notebook(source) if source.suffix == ".py" else source.read_text(encoding="utf-8")
    parts = BLOCK.split(text)  # the odd ones are blocks of code
    parts[::2] = [LINK.sub(lambda link: _link(link, source, places), part) for part in parts[::2]]
    return "".join(parts)


def _link(link: re.Match[str], source: Path, places: dict[Path, Path]) -> str:
    mark, shown, target, anchor = link.groups()
    if not target or "://" in target or target.startswith("mailto:"):
        return link[0]
    found = (source.parent / target).resolve()
    if found not in places:
        if not found.exists():
            raise FileNotFoundError(f"{source.relative_to(REPOSITORY)} links to {target}, which is not there")
        return shown if shown.startswith("`") else f"{shown} (`{found.relative_to(REPOSITORY)}`)"
    path = os.path.relpath(places[found], places[source].parent)
    return f"{mark}[{shown}]({path}{anchor or ''})"


def _notebook(source: Path) -> str:
    """A notebook's cells as one page."""
    import jupytext  # with what builds the site alone

    cells = jupytext.read(source).cells
    return "\n\n".join(
        cell.source if cell.cell_type == "markdown" else f"```python\n{cell.source}\n```" for cell in cells
    )


def gather(folder: Path) -> None:
    """Write every file of the site into a new folder."""
    shutil.rmtree(folder, ignore_errors=True)
    places = sources()
    for source, place in places.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if place.suffix == ".md":
            (folder / place).write_text(page(source, places), encoding="utf-8")
        else:
            shutil.copyfile(source, folder / place)


if __name__ == "__main__":
    gather(PAGES)
