"""Large bodies, read and written piece by piece, so that no other thread waits long for the interpreter."""
