"""(Graph, Plan) to Program for plans that split more than the batch: the parts that `passes.lower` puts together.

A value has forms: a placement on the mesh of its stage, a layout, and the halo that a window needs. It is born in one,
kept at home in one, and read in others; between them stand collectives, copies and conversions, each new form in a
buffer of its own.

* `forms`: what a form is; `kinds`: which forms each pass of an op reads and writes under its partition.
* `stages`: which nodes a stage of the pipeline runs and which values cross its ends.
* `setting`: what holds for the whole job: meshes, homes, prices of collectives.
* `values`: the forms of values as instructions make them; `nodes`: nodes to instructions.
* `totals`: gradients of weights, loss and metrics, summed over microbatches and ranks, in buckets, sharded or whole.
* `weights`: what a role keeps from step to step, and lends to other roles.
* `pack`: weights that are packed once for several microbatches; `lowered`: how many of them there is memory for.
* `updates`: what a step does with these; `schedule`: rows of a pipeline; `program`: roles and entries.
"""
