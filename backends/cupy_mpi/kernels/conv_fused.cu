// needs conv_direct, conv_implicit, conv_winograd
