// A linear layer on a CPU: what the caller and the levels of instructions share.
#pragma once

#include <cstdint>

// y = activation(x Wᵀ + bias) + residual, or with `gated` activation(x Wᵀ + bias) · (x Vᵀ + bias of V).
// In float32, in bfloat16, or in 8-bit integers: each row of x rounded to 256 levels of its own. Those products see
// z = x · spread, whose weights are those of x divided by `spread`.
// Columns of weights come in panels of kColumns, in float32 of `sie_float32_columns`; under `gated` half of a panel is
// W's and half V's. `out` columns are stored, which `panels` panels make.
enum Numbers { kFloat32, kBfloat16, kInt8 };
enum Activation { kNone, kCurve, kErf };  // kErf: the exact form of GELU, in float32 alone

struct LinearArguments {
    const void* x;            // [rows, in], bfloat16 or float32
    const float* spread;      // [in], for integers
    const int8_t* levels;     // for integers: [panels, in / 4, kColumns, 4], in rounded up, zeros behind the last
    // float32 [panels, in, columns]; bfloat16 [panels, in / 2, kColumns, 2], rounded up likewise. Beside `levels`, what
    // they are the rounded form of: bfloat16 [panels, in, 16, 2], columns 0, 16, 1, 17, …
    const void* weights;
    const float *step, *sums;  // [panels, kColumns], for integers: levels · step are weights; Σ levels
    const float* bias;         // [panels, columns]; 0 where there is none, or null in float32
    const float* residual;     // [rows, out], or null
    void* y;                   // [rows, out], bfloat16 or float32
    int64_t x_row, residual_row, y_row;  // elements
    int32_t rows, in, out, panels;
    int32_t numbers, x_bfloat16, y_bfloat16, activated, gated;
    // kCurve: activation(y) = y / (1 + 2^(y · (slope[0] + slope[1] y² + slope[2] y⁴))), y² in the brackets at most `limit`.
    float slope[3], limit;
};

constexpr int kColumns = 32;

// Each is linear.cpp or linear_float32.cpp, compiled for other instructions. 0: done; 1: no memory.
int linear_float32_portable(const LinearArguments&);
void lay_float32_portable(const float* weights, int64_t rows, int64_t in, float* panels);
#ifdef __x86_64__
int linear_float32_avx2(const LinearArguments&);
int linear_float32_avx512(const LinearArguments&);
void lay_float32_avx2(const float* weights, int64_t rows, int64_t in, float* panels);
void lay_float32_avx512(const float* weights, int64_t rows, int64_t in, float* panels);
int linear_avx512_vnni(const LinearArguments&);  // integers alone
int linear_avx512_vnni_bf16(const LinearArguments&);
int linear_amx(const LinearArguments&);
#endif
