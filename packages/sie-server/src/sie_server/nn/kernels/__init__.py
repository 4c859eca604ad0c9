"""Kernels in C++ and the ctypes that call them."""
