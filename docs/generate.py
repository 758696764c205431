"""Write the reference pages that the code itself can tell: `python docs/generate.py`. A test holds them current.

recipe.md is from the recipe's schema, glossary.md from the words that reports explain, reference/commands.md from the command line,
reference/schemas from the files' own models.
"""

import json
import runpy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from tiebreak import cli
from tiebreak.engine.artifacts import Manifest
from tiebreak.engine.progress import Reading
from tiebreak.judge.package import Package
from tiebreak.model.families import VERIFIED
from tiebreak.pages.terms import TERMS
from tiebreak.recipe.schema import Recipe

DOCS = Path(__file__).parent
OUTPUTS = runpy.run_path(str(DOCS / "json_files.py"))
SCHEMAS: dict[str, type[Any]] = {
    "recipe": Recipe,
    "tiebreak": Package,
    "manifest": Manifest,
    "progress": Reading,
    "metrics": OUTPUTS["Metrics"],
    "comparison": OUTPUTS["PrintedComparison"],
    "audit": OUTPUTS["Audit"],
    "bench": OUTPUTS["Bench"],
    "card": OUTPUTS["PrintedCard"],
    "status": OUTPUTS["Statuses"],
}


class _NullForNaN(GenerateJsonSchema):
    """Schemas of what is written with null for figures that are not known."""

    def float_schema(self, schema: Any) -> JsonSchemaValue:
        return {"anyOf": [super().float_schema(schema), {"type": "null"}]}


BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
INTRODUCTION = """# The recipe

A recipe is one YAML file that says everything a run does. Make one with `tiebreak init`; whatever it leaves
out has the default below. An unknown key is an error that names the nearest valid one. Every command that
takes a recipe also takes `--set`, as often as needed: `--set distill.temperature=2 --set teach.folds=[0]`.

Everything but `compute`, `slurm` and `run_dir` is part of what a run makes: change a value, and `tiebreak plan` shows
which tasks become stale (see [artifacts.md](artifacts.md)). Relative paths start at the recipe's folder.

A number beyond its limit, and more than 10,000 tasks, are taken for a slip of the keyboard.
`--set compute.check_limits=false` lifts these limits, all of them; bounds with a sign, such as <= 20, stay.

This page is generated from `src/tiebreak/recipe/` by `python docs/generate.py`.
"""

FAMILIES = f"""## Families of models

A base is a decoder in safetensors that transformers can load as a sequence classifier, without code of its own. Verified, by a test
that compares packed documents with plain transformers, are these values of `model_type` in its config.json:
{", ".join(f"`{name}`" for name in VERIFIED)}.

Any other family is compared in the same way, as a tiny random model on the CPU, before `tiebreak check`, `tiebreak plan` or a
run does anything, and is refused where it differs: recurrent layers, attention sinks, attention to both sides. Its own weights are
compared as well: before any work in fp32 on the CPU where they take at most a GiB, and of every size each time they are
loaded, on the device and in the precision that they are used in. Rows are at most as long as the model has positions (`max_position_embeddings`; with longrope, as long as its first factors hold).
"""


GLOSSARY = """# Glossary

The words of reports and pages, which explain them too. Generated from `src/tiebreak/pages/terms.py` by `python docs/generate.py`.
"""

COMMANDS = """# Commands

Results go to standard output, all else to standard error. Every command that prints a table takes `--json`. An error exits with 2, what
nobody expected with 70. `--help`, behind `tiebreak` or a command, says the same as this page, which `python docs/generate.py` makes of it.
"""


def pages() -> dict[str, str]:
    """Every generated file, by its path below docs."""
    schemas = {
        f"reference/schemas/{name}.schema.json": json.dumps(_schema(model), indent=2) + "\n"
        for name, model in SCHEMAS.items()
    }
    written = {
        "recipe.md": recipe_page(),
        "reference/commands.md": commands_page(),
        "glossary.md": glossary(),
    }
    return written | schemas


def _schema(model: type[Any]) -> dict[str, Any]:
    """The schema of a model, or of a frozen dataclass, in whose JSON null stands for NaN."""
    if issubclass(model, BaseModel):
        return model.model_json_schema()
    return TypeAdapter(model).json_schema(schema_generator=_NullForNaN)


def glossary() -> str:
    """The words of pages and reports, by the alphabet."""
    words = [f"## {term[0].upper()}{term[1:]}\n\n{TERMS[term]}\n" for term in sorted(TERMS, key=str.lower)]
    return "\n".join([GLOSSARY, *words])


def commands_page() -> str:
    """Every command, in the order of `tiebreak --help`, with its arguments and options."""
    group: Any = typer.main.get_command(cli.app)
    return "\n".join([COMMANDS, *(_command(name, command) for name, command in _all(group.commands))])


def _all(commands: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by their whole names, those of a group behind it."""
    for name, command in commands.items():
        yield f"{above}{name}", command
        yield from _all(getattr(command, "commands", {}), f"{above}{name} ")


def _command(name: str, command: Any) -> str:
    context = typer.Context(command, info_name=f"tiebreak {name}")
    usage = " ".join(command.collect_usage_pieces(context))
    told = [f"## tiebreak {name}\n", f"{command.help}\n", f"```text\ntiebreak {name} {usage}\n```\n"]
    rows = [row for parameter in command.get_params(context) if (row := _parameter(parameter, context))]
    if rows:
        told += ["| argument or option | meaning |", "|---|---|", *rows, ""]
    example = (command.epilog or "").partition("Example: ")[2]
    return "\n".join([*told, f"Example: `{example}`\n"] if example else told)


def _parameter(parameter: Any, context: typer.Context) -> str | None:
    record = parameter.get_help_record(context)
    return f"| `{record[0]}` | {_escaped(record[1])} |" if record else None


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def recipe_page() -> str:
    """Every key of a recipe, and the verified families."""
    schema = Recipe.model_json_schema()
    titles = dict(_titles(schema, schema["$defs"]))
    tables = [_table(schema, schema["$defs"], titles)]
    for name, title in titles.items():
        section = schema["$defs"][name]
        tables += [f"## {title}\n", section.get("description", ""), _table(section, schema["$defs"], titles)]
    return "\n".join([INTRODUCTION, *tables, FAMILIES])


def _titles(schema: dict[str, Any], sections: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Schema name and title of every section, once: the top ones by their key, those inside by their name."""
    waiting, seen = [schema], set()
    while waiting:
        parent = waiting.pop(0)
        for key, field in parent["properties"].items():
            if (name := _reference(field)) and name not in seen:
                seen.add(name)
                waiting.append(sections[name])
                yield name, key if parent is schema else name


def _table(section: dict[str, Any], sections: dict[str, Any], titles: dict[str, str]) -> str:
    lines = ["", "| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in section["properties"].items():
        default = "required" if key in section.get("required", ()) else _default(field, sections)
        lines.append(f"| `{key}` | {_type(field, titles)} | {default} | {_cell(field)} |")
    return "\n".join([*lines, ""])


def _cell(field: dict[str, Any]) -> str:
    description: str = field.get("description", "")
    return description.replace("|", "\\|")


def _values(field: dict[str, Any]) -> dict[str, Any] | None:
    """What a mapping holds under names of any kind, or of one pattern; None for what is no mapping."""
    found = next(iter(field.get("patternProperties", {}).values()), field.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _reference(field: dict[str, Any]) -> str | None:
    """The section that a field holds, or that a mapping's values hold."""
    target = (_values(field) or field).get("$ref")
    return target.rpartition("/")[2] if target else None


def _type(field: dict[str, Any], titles: dict[str, str]) -> str:
    if limit := field.get("limit"):
        return f"{_type({k: v for k, v in field.items() if k != 'limit'}, titles)}, limit {limit:,}"
    if "anyOf" in field:
        return " or ".join(_type(choice, titles) for choice in field["anyOf"])
    if values := _values(field):
        return f"names: {_type(values, titles)}"
    if name := _reference(field):
        return f"[{titles[name]}](#{titles[name].lower()})"
    if choices := field.get("enum", [field["const"]] if "const" in field else None):
        return ", ".join(f"`{choice}`" for choice in choices)
    if field["type"] == "array":
        items = [_type(item, titles) for item in field.get("prefixItems") or [field["items"]]]
        return f"[{', '.join(items if 'prefixItems' in field else [*items, '...'])}]"
    bounds = (f"{sign} {field[key]}" for key, sign in BOUNDS.items() if key in field)
    return ", ".join([field["type"], *bounds])


def _default(field: dict[str, Any], sections: dict[str, Any]) -> str:
    """A plain value; of a section only what differs from the section's own defaults."""
    default, name = field.get("default"), _reference(field)
    if name is None or not isinstance(default, dict):
        return f"`{json.dumps(default)}`"
    own = sections[name]["properties"]
    changed = {k: v for k, v in default.items() if not isinstance(v, dict) and v != own[k].get("default")}
    return ", ".join(f"`{key}: {json.dumps(value)}`" for key, value in changed.items())


if __name__ == "__main__":
    for name, text in pages().items():
        (DOCS / name).parent.mkdir(parents=True, exist_ok=True)
        (DOCS / name).write_text(text, encoding="utf-8")
