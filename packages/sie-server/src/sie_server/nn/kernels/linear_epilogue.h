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

// Write a row's results for the 32 columns from `column` on to y, after activation, gate and residual.
inline void write(const LinearArguments& a, __m512 low, __m512 high, int64_t number, int column) {
    if (a.activation) {
        low = activate(a, low);
        if (!a.gated) high = activate(a, high);
    }
    if (!a.gated && a.out - column >= kColumns) {
        int64_t element = number * a.y_row + column;
        if (a.residual) {
            const float* residual = a.residual + number * a.residual_row + column;
            low = _mm512_add_ps(low, _mm512_loadu_ps(residual));
            high = _mm512_add_ps(high, _mm512_loadu_ps(residual + kLanes));
        }
        if (a.y_bfloat16) {
            _mm512_storeu_si512(static_cast<uint16_t*>(a.y) + element, to_bfloat16(low, high));
        } else {
            _mm512_storeu_ps(static_cast<float*>(a.y) + element, low);
            _mm512_storeu_ps(static_cast<float*>(a.y) + element + kLanes, high);
        }
        return;
    }
    int vectors = kVectors;
    __m512 y[] = {low, high};
    if (a.gated) {
        vectors = 1;
        column /= 2;
        y[0] = _mm512_mul_ps(low, high);
    }
    for (int j = 0; j < vectors; j++, column += kLanes) {
        __mmask16 lanes = first(a.out - column);
        if (a.residual)
            y[j] = _mm512_add_ps(y[j], load(a.residual, false, number * a.residual_row + column, lanes));
        store(a.y, a.y_bfloat16, number * a.y_row + column, y[j], lanes);
    }
}

// Turn sums of products of `count` rows with a panel into their parts of y. The sums are overwritten.
template <class N>
inline void finish(const LinearArguments& a, const typename N::Row* rows, int64_t number, int count, int panel,
                   typename N::Sum* sums) {
    int column = panel * kColumns;
    float* values = reinterpret_cast<float*>(sums);
    bool outliers = N::has_outliers(rows, count);
    for (int r = 0; outliers && r < count; r++) {
        float* y = values + r * kColumns;
        __m512 low, high;
        N::results(a, rows[r], column, sums + r * kVectors, low, high);
        _mm512_store_ps(y, low);
        _mm512_store_ps(y + kLanes, high);
    }
    if (outliers) N::add_outliers(a, rows, number, count, column, values);
    // `write` is in one place: the compiler might fuse different operations in each copy.
    for (int r = 0; r < count; r++) {
        const float* y = values + r * kColumns;
        __m512 low, high;
        if (outliers) {
            low = _mm512_load_ps(y);
            high = _mm512_load_ps(y + kLanes);
        } else {
            N::results(a, rows[r], column, sums + r * kVectors, low, high);
        }
        write(a, low, high, number + r, column);
    }
}

}  // namespace
