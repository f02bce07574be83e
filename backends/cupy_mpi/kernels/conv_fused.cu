// needs conv_direct, conv_winograd
