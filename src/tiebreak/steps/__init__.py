"""One file a step. Each has

    VERSION   raised when the step would make something else from the same settings and inputs
    Settings  the slice of the recipe that the step sees, part of its artifact's key
    run(settings, inputs, output, runtime) -> metrics

`inputs` maps a name to one or more folders, each an artifact of another task or a source (a file of votes,
a model folder). Everything the step makes goes into the folder `output`. torch and transformers are
imported inside `run`, so that planning, which imports every step, answers at once.
"""
