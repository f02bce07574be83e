// needs conv_direct, conv_im2col
