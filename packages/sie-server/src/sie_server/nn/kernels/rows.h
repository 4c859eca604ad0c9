// What is computed of each row by itself, on a CPU: what the caller and the levels of instructions share.
#pragma once

#include <cstdint>

// Of x `[rows, heads, width]`, dense in its last dimension, bfloat16 or float32; strides count elements.
struct RowsArguments {
    const void* x;
    void* y;  // [rows, heads, width], dense
    int64_t x_row, x_head;
    int32_t rows, heads, width, x_bfloat16, y_bfloat16;
    // Of the norms: LayerNorm, or with `rms` RMSNorm. float32 [width]; bias: null for none.
    const float *weight, *bias;
    float eps;
    int32_t rms;
    // Of the rotation: float32 [rows, width], each angle twice; null for the norms.
    const float *cos, *sin;
};

// Each is rows.cpp, compiled for other instructions. 0: done; 1: no memory.
int rows_portable(const RowsArguments&);
#ifdef __x86_64__
int rows_avx2(const RowsArguments&);
int rows_avx512(const RowsArguments&);
#endif
