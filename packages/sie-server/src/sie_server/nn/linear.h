// A linear layer on a CPU: what the caller and the levels of instructions share.
#pragma once

#include <cstdint>

// y = activation(x Wᵀ + bias) + residual, or with `gated` activation(x Wᵀ + bias) · (x Vᵀ + bias of V).
// In bfloat16, or, where there are `levels`, in 8-bit integers: each row of x rounded to 256 levels of its own. Those
// products see z = x · spread, whose weights are those of x divided by `spread`.
// Columns of weights come in panels of kColumns; under `gated` half of a panel is W's and half V's. `out` columns are
// stored, which `panels` panels make.
struct LinearArguments {
    const void* x;            // [rows, in], bfloat16 or float32
    const float* spread;      // [in], for integers
    const int8_t* levels;     // [panels, in / 4, kColumns, 4], in rounded up, zeros behind the last; null: bfloat16
    // bfloat16 [panels, in / 2, kColumns, 2], likewise. Beside `levels`, what they are the rounded form of:
    // [panels, in, 16, 2], columns 0, 16, 1, 17, …
    const uint16_t* weights;
    const float *step, *sums;  // [panels, kColumns], for integers: levels · step are weights; Σ levels
    const float* bias;         // [panels, kColumns]; 0 where there is none
    const float* residual;     // [rows, out], or null
    void* y;                   // [rows, out], bfloat16 or float32
    int64_t x_row, residual_row, y_row;  // elements
    int32_t rows, in, out, panels;
    int32_t x_bfloat16, y_bfloat16, activated, gated;
    // activation(y) = y / (1 + 2^(y · (slope[0] + slope[1] y² + slope[2] y⁴))), y² in the brackets at most `limit`.
    float slope[3], limit;
};

constexpr int kColumns = 32;

// Each is linear.cpp, compiled for other instructions. 0: done; 1: no memory.
#ifdef __x86_64__
int linear_avx512_vnni(const LinearArguments&);  // integers alone
int linear_avx512_vnni_bf16(const LinearArguments&);
#endif
