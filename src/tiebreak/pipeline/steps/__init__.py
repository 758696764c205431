"""Pipeline steps, one file each, with

    VERSION   raised when the step's output for the same settings and inputs changes
    Settings  the slice of the recipe that the step reads, part of its artifact's key
    run(settings, inputs, output, runtime) -> metrics
    workload(recipe, teacher, votes) -> tokens of a task, where a model trains or scores
    STEP      all that others know of the step (pipeline.step)

`inputs` maps a name to one or more folders, each an artifact of another task or a source (a file of votes,
a model folder). Everything the step writes goes into the folder `output`. torch and transformers are
imported inside `run`, so that planning, which imports every step, is quick.
"""
