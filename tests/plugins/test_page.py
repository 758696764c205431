"""The examples of docs/plugins.md run, each where its package is installed."""

import re
from pathlib import Path

import pytest

from tiebreak.judge.judge import Judge

pytestmark = pytest.mark.slow
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "plugins.md").read_text()
EXAMPLES = {
    package: next(
        code for code in re.findall(r"```python\n(.*?)```", PAGE, re.S) if f"from {package}" in code
    )
    for package in ("inspect_ai", "alpaca_eval", "lm_eval")
}
(CONFIG,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)


@pytest.fixture
def desk(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as a reader has it, with a run in `judge`."""
    (tmp_path / "judge" / "run").mkdir(parents=True)
    (tmp_path / "judge" / "run" / "model").symlink_to(folder)
    (tmp_path / "judge" / "configs.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("package", EXAMPLES)
@pytest.mark.usefixtures("desk")
def test_an_example_runs(package: str, judge: Judge) -> None:
    pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    made: dict[str, object] = {"__name__": "__main__"}
    exec(compile(EXAMPLES[package], f"docs/plugins.md ({package})", "exec"), made)
    if package == "alpaca_eval":
        p_a, _, p_tie = judge.predict([{"prompt": "Why?", "response_a": "Because.", "response_b": "No."}])[0]
        assert made["annotations"][0]["preference"] == pytest.approx(1 + p_a + p_tie / 2, abs=1e-6)  # type: ignore[index]
