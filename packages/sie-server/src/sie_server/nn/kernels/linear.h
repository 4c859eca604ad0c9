// A linear layer on a CPU: the interface of the kernel's variants, one per instruction set.
#pragma once

#include <cstdint>

// y = activation(x Wᵀ + bias) + residual, or with `gated` activation(x Wᵀ + bias) · (x Vᵀ + bias of V). Computed in
// float32, bfloat16 or int8. In int8, each row of z = x · input_scale is rounded to 256 levels of its own; the weights
// are divided by `input_scale` to compensate. Output columns are stored in panels of kColumns (float32:
// `sie_float32_columns`); with `gated`, half of each panel is W's and half V's. `panels` panels make up the `out`
// columns of y.
enum LinearDtype { kFloat32, kBfloat16, kInt8 };
enum Activation { kNone, kCurve, kErf };  // kErf: exact GELU, float32 only

struct LinearArguments {
    const void* x;            // [rows, in], bfloat16 or float32
    const float* input_scale;    // int8: [in]
    const int8_t* int8_weights;  // int8: [panels, in / 4, kColumns, 4], in rounded up, padded with zeros
    // float32: [panels, in, columns]. bfloat16: [panels, in / 2, kColumns, 2], in rounded up, padded with zeros.
    // int8: the weights before rounding, for outliers, as bfloat16 [panels, in, 16, 2], columns 0, 16, 1, 17, …
    const void* weights;
    const float* weight_scale;  // int8: [panels, kColumns], weights ≈ int8_weights · weight_scale
    const float* weight_sums;   // int8: [panels, kColumns], sums of int8_weights over the inputs
    const float* bias;          // [panels, columns]; float32: may be null, otherwise zeros for no bias
    const float* residual;      // [rows, out], or null
    void* y;                    // [rows, out], bfloat16 or float32
    int64_t x_row, residual_row, y_row;  // strides in elements
    int32_t rows, in, out, panels;
    int32_t dtype, x_bfloat16, y_bfloat16, activation, gated;
    // kCurve: activation(y) = y / (1 + 2^(y · (slope[0] + slope[1] s + slope[2] s²))), s = min(y², limit).
    float slope[3], limit;
};

constexpr int kColumns = 32;

// linear.cpp and linear_float32.cpp, compiled once per instruction set. `l2_bytes`: size of a core's L2 cache. Return 0,
// or 1 if memory can't be allocated.
int linear_float32_portable(const LinearArguments&, int64_t l2_bytes);
void pack_float32_panels_portable(const float* weights, int64_t rows, int64_t in, float* panels);
#ifdef __x86_64__
int linear_float32_avx2(const LinearArguments&, int64_t l2_bytes);
int linear_float32_avx512(const LinearArguments&, int64_t l2_bytes);
void pack_float32_panels_avx2(const float* weights, int64_t rows, int64_t in, float* panels);
void pack_float32_panels_avx512(const float* weights, int64_t rows, int64_t in, float* panels);
int linear_avx2_vnni(const LinearArguments&, int64_t l2_bytes);    // int8 only
int linear_avx512_vnni(const LinearArguments&, int64_t l2_bytes);  // int8 only
int linear_avx512_vnni_bf16(const LinearArguments&, int64_t l2_bytes);
int linear_amx(const LinearArguments&, int64_t l2_bytes);
#endif
