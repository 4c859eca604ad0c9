// From sums of products to results of a linear layer: bias, activation, gate and residual.
#pragma once

#include "linear_dtypes.h"

namespace {

constexpr int kVectors = kColumns / kLanes;

inline __m512 activate(const LinearArguments& a, __m512 y) {
    __m512 square = _mm512_min_ps(_mm512_mul_ps(y, y), _mm512_set1_ps(a.limit));
    __m512 slope = _mm512_fmadd_ps(_mm512_set1_ps(a.slope[2]), square, _mm512_set1_ps(a.slope[1]));
    slope = _mm512_fmadd_ps(slope, square, _mm512_set1_ps(a.slope[0]));
    __m512 power = exp2(_mm512_mul_ps(slope, y));
    return _mm512_mul_ps(y, _mm512_rcp14_ps(_mm512_add_ps(power, _mm512_set1_ps(1.0f))));  // relative error 6e-5
}

// Turn a row's sums of products with a panel into its part of y.
template <class N>
inline void finish(const LinearArguments& a, const typename N::Row& row, int64_t number, int panel,
                   const typename N::Sum* sums) {
    int column = panel * kColumns;
    __m512 y[kVectors];
    N::results(a, row, column, sums, y);
    if (a.activation) {
        y[0] = activate(a, y[0]);
        if (!a.gated) y[1] = activate(a, y[1]);
    }
    if (!a.gated && a.out - column >= kColumns) {
        int64_t element = number * a.y_row + column;
        if (a.residual)
            for (int j = 0; j < kVectors; j++)
                y[j] = _mm512_add_ps(y[j], _mm512_loadu_ps(a.residual + number * a.residual_row + column + j * kLanes));
        if (a.y_bfloat16)
            _mm512_storeu_si512(static_cast<uint16_t*>(a.y) + element, to_bfloat16(y[0], y[1]));
        else
            for (int j = 0; j < kVectors; j++)
                _mm512_storeu_ps(static_cast<float*>(a.y) + element + j * kLanes, y[j]);
        return;
    }
    int vectors = kVectors;
    if (a.gated) {
        vectors = 1;
        column /= 2;
        y[0] = _mm512_mul_ps(y[0], y[1]);
    }
    for (int j = 0; j < vectors; j++, column += kLanes) {
        __mmask16 lanes = first(a.out - column);
        if (a.residual)
            y[j] = _mm512_add_ps(y[j], load(a.residual, false, number * a.residual_row + column, lanes));
        store(a.y, a.y_bfloat16, number * a.y_row + column, y[j], lanes);
    }
}

}  // namespace
