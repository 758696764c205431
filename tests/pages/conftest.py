import sys

import pytest

from tiebreak import pages


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Makes a package with a template; returns its name."""

    def make(template: str) -> str:
        name = f"pages_of_{tmp_path.name}"
        folder = tmp_path / name / "templates"
        folder.mkdir(parents=True, exist_ok=True)
        (tmp_path / name / "__init__.py").touch()
        (folder / "page.html.j2").write_text(template)
        monkeypatch.syspath_prepend(tmp_path)
        pages._templates.cache_clear()
        return name

    yield make
    for name in [name for name in sys.modules if name.startswith("pages_of_")]:
        del sys.modules[name]
