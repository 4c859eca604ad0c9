// Norms and rotary positions on a CPU, row by row: the interface of the kernel's variants, one per instruction set.
#pragma once

#include <cstdint>

// x is [rows, heads, width], bfloat16 or float32, contiguous in its last dimension; strides are in elements.
struct NormRotaryArguments {
    const void* x;
    void* y;  // [rows, heads, width], contiguous
    int64_t x_row, x_head;
    int32_t rows, heads, width, x_bfloat16, y_bfloat16;
    // Norms: LayerNorm, or RMSNorm with `rms`. float32 [width]; bias may be null.
    const float *weight, *bias;
    float eps;
    int32_t rms;
    // Rotation: float32 [rows, width], each angle twice; null for the norms.
    const float *cos, *sin;
};

// norm_rotary.cpp, compiled once per instruction set. Returns 0, or 1 if memory can't be allocated.
int norm_rotary_portable(const NormRotaryArguments&);
#ifdef __x86_64__
int norm_rotary_avx2(const NormRotaryArguments&);
int norm_rotary_avx512(const NormRotaryArguments&);
#endif
