"""The dlspec grammar, kept as data beside the version notes of the language."""
