// A linear layer in 8-bit integers on a CPU: what the caller and the levels of instructions share.
#pragma once

#include <cstdint>

// y = activation(x Wᵀ + bias), or with `gated` activation(x Wᵀ + bias) · (x Vᵀ + bias of V), each row of x rounded to
// 256 levels of its own. The products see z = x · spread, whose weights are those of x divided by `spread`.
// Columns of weights come in panels of kColumns; under `gated` half of a panel is W's and half V's. `out` columns are
// stored, which `panels` panels make.
struct LinearArguments {
    const void* x;            // [rows, in], bfloat16 or float32
    const float* spread;      // [in]
    const int8_t* levels;     // [panels, in / 4, kColumns, 4], in rounded up, zeros behind the last
    // [panels, in, kColumns / 32, 16, 2] bfloat16, what `levels` are the rounded form of: columns 0, 16, 1, 17, …
    const uint16_t* weights;
    const float *step, *sums, *bias;  // [panels, kColumns]: levels · step are weights; Σ levels; 0 where there is none
    void* y;                  // [rows, out], bfloat16 or float32
    int64_t x_row, y_row;     // elements
    int32_t rows, in, out, panels;
    int32_t x_bfloat16, y_bfloat16, activated, gated;
    // activation(y) = y / (1 + 2^(y · (slope[0] + slope[1] y² + slope[2] y⁴))), y² in the brackets at most `limit`.
    float slope[3], limit;
};

constexpr int kColumns = 64;

// Each is int8.cpp, compiled for other instructions. 0: done; 1: no memory.
#ifdef __x86_64__
int int8_linear_avx512_vnni(const LinearArguments&);
int int8_linear_avx512_vnni_bf16(const LinearArguments&);
#endif
