"""Task graph: its tasks, their order and their inputs."""

import pytest
import yaml

from tiebreak.commands.init import preset_text
from tiebreak.errors import TiebreakError
from tiebreak.pipeline import graph
from tiebreak.pipeline.graph import Source, Task
from tiebreak.recipe import loader
from tiebreak.recipe.basics import presets
from tiebreak.recipe.values import STEPS


def tasks_of(preset: str, **changes: object) -> tuple[Task, ...]:
    tree = yaml.safe_load(preset_text(preset))
    return graph.tasks(loader.parse(tree | changes, preset))


def ids(tasks: tuple[Task, ...], step: str) -> list[str]:
    return [task.name for task in tasks if task.step.name == step]


@pytest.mark.parametrize("preset", presets())
def test_every_task_comes_after_what_it_reads(preset: str) -> None:
    seen: set[str] = set()
    for task in tasks_of(preset):
        assert {upstream.id for upstream in task.upstream()} <= seen
        assert task.id not in seen
        seen.add(task.id)


@pytest.mark.parametrize("preset", presets())
def test_every_step_is_there_and_is_a_step(preset: str) -> None:
    tasks = tasks_of(preset)
    left_out = {"post_pretrain"} if preset == "small" else set()
    assert {task.step for task in tasks} <= set(graph.STEPS)
    assert {task.step.name for task in tasks} == {*STEPS} - left_out


def test_steps_are_the_recipes_with_the_published_nine_among_them() -> None:
    assert tuple(step.name for step in graph.STEPS) == STEPS
    assert sorted(step.number for step in graph.STEPS if step.number) == list(range(1, 10))


def test_published_has_two_teachers_five_folds_and_shards() -> None:
    tasks = tasks_of("published")
    assert ids(tasks, "teach") == [f"{name}-fold{fold}" for name in ("llama", "qwen") for fold in range(5)]
    assert len(ids(tasks, "score")) == 2 * 5 * 4
    assert ids(tasks, "distill") == [f"fold{fold}" for fold in range(5)]
    assert ids(tasks, "post_pretrain") == ["llama", "qwen", "student"]


def test_tasks_say_whose_they_are() -> None:
    tree = yaml.safe_load(preset_text("published"))
    base = tree["models"]["teachers"]["llama"]
    models = tree["models"] | {"teachers": {"llama-fold1": base}}
    tasks = tasks_of("published", models=models, logits={"shards": 2})
    found = {task.id: (task.teacher, task.fold, task.shard) for task in tasks}
    assert found["post_pretrain/llama-fold1"] == ("llama-fold1", None, None)
    assert found["post_pretrain/student"] == (None, None, None)
    assert found["teach/llama-fold1-fold0"] == ("llama-fold1", 0, None)
    assert found["score/llama-fold1-fold3-2of2"] == ("llama-fold1", 3, 1)
    assert found["distill/fold4"] == (None, 4, None)
    assert found["average/student"] == (None, None, None)


def test_a_student_reads_its_folds_logits_or_with_out_of_fold_labels_all() -> None:
    def read(soft_labels: str) -> list[str]:
        tasks = tasks_of("published", logits={"soft_labels": soft_labels})
        return [
            task.id for task in graph.find(tasks, "distill/fold1").inputs["logits"] if isinstance(task, Task)
        ]

    assert read("in_sample") == ["score/llama-fold1-1of1", "score/qwen-fold1-1of1"]
    assert len(read("out_of_fold")) == 10


def test_one_student_of_all_folds_reads_every_logit_and_holds_nothing_out() -> None:
    tasks = tasks_of("tiny", distill={"students": "one"}, logits={"soft_labels": "out_of_fold"})
    (student,) = [task for task in tasks if task.step.name == "distill"]
    assert (student.id, student.settings.fold) == ("distill/all", None)
    assert len(student.inputs["logits"]) == 3


def test_other_seeds_of_training_keep_the_split_where_it_has_its_own() -> None:
    def splits(**split: int) -> set[str]:
        graphs = (tasks_of("tiny", split=split, seed=seed) for seed in (0, 1))
        return {str(graph.find(tasks, "split/votes").settings) for tasks in graphs}

    assert len(splits(seed=3)) == 1
    assert len(splits()) == 2


def test_chosen_folds_alone_are_there() -> None:
    tasks = tasks_of("published", teach={"folds": [0, 3]}, distill={"folds": [3]}, logits={})
    assert len(ids(tasks, "teach")) == 4
    assert len(ids(tasks, "score")) == 4
    assert ids(tasks, "distill") == ["fold3"]


def test_the_baseline_is_an_input_or_left_out() -> None:
    readers = [task.id for task in tasks_of("published") if "baseline" in task.inputs]
    assert readers == ["average/student", "evaluate/report"]
    tasks = tasks_of("published", baseline={"enabled": False})
    assert not any(task.step.name == "baseline" or "baseline" in task.inputs for task in tasks)


def test_without_preference_pairs_there_is_no_post_pretraining() -> None:
    for changes in ({"data": {"votes": ["v.csv"]}}, {"post_pretrain": {"enabled": False}}):
        tasks = tasks_of("published", **changes)
        assert ids(tasks, "post_pretrain") == []
        assert "start" not in graph.find(tasks, "teach/llama-fold0").inputs


def test_how_many_folds_run_is_no_part_of_a_students_settings() -> None:
    every, one = tasks_of("tiny"), tasks_of("tiny", teach={"folds": [0]})
    assert graph.find(every, "distill/fold0").settings == graph.find(one, "distill/fold0").settings


def test_sources_are_named_as_the_recipe_names_them() -> None:
    tasks = tasks_of("published")
    assert graph.find(tasks, "ingest/votes").inputs["files"] == (Source("train.csv"),)
    base = graph.find(tasks, "teach/qwen-fold0").inputs["base"]
    assert base == (Source("Qwen/Qwen2-72B-Instruct", None, is_model=True),)


def test_an_unknown_task_is_named_with_the_nearest() -> None:
    with pytest.raises(TiebreakError, match="did you mean 'teach/llama-fold0'"):
        graph.find(tasks_of("tiny"), "teach/lama-fold0")
