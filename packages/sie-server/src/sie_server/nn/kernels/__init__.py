"""CPU kernels in C++, and their ctypes bindings."""
