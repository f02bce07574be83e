// needs conv_implicit, cast
