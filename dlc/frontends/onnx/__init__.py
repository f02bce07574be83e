"""ONNX: models become specs with their weights beside them, and networks become models.

`model` reads a file and folds what is constant, `coverage` holds what is covered, a table by op type, `translation`
makes statements of nodes with the functions of that table, `spec` puts the file together. `export` goes the other way.
"""
