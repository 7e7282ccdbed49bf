"""The tiny family: how each member is made, scored and described. Imports foundation, training and smallworld; nothing that decodes brains."""
