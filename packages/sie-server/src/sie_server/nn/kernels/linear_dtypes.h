// Dtypes of linear.cpp: conversion of a row of activations to cells of 32 bits, one step of a product, and conversion
// of the sums to float32. Each row is processed on its own, so its bits do not depend on other rows.
#pragma once

#include <cfloat>
#include <cmath>

#include "avx512.h"
#include "linear.h"

namespace {

#ifdef __AVX512BF16__
// Pairs of bfloat16, summed in float32.
struct Bfloat16 {
    struct Row {};
    typedef __m512 Sum;
    static constexpr int kPerCell = 2;

    static const void* weights(const LinearArguments& a) { return a.weights; }

    static void read(const LinearArguments& a, int64_t number, float*, void* cells, Row&) {
        for (int i = 0; i < up(a.in, kPerCell); i += kLanes)
            store(cells, true, i, load(a.x, a.x_bfloat16, number * a.x_row + i, first(a.in - i)),
                  first(up(a.in, 2) - i));
    }

    static void prefetch(const LinearArguments&, const Row&, int64_t) {}

    static Sum zero() { return _mm512_setzero_ps(); }

    static Sum multiply_add(Sum sum, __m512i cell, __m512i columns) {
        return _mm512_dpbf16_ps(sum, (__m512bh)cell, (__m512bh)columns);
    }

    static void results(const LinearArguments& a, const Row&, int64_t column, const Sum* sums, __m512* y) {
        for (int j = 0; j < kColumns / kLanes; j++)
            y[j] = _mm512_add_ps(sums[j], _mm512_loadu_ps(a.bias + column + j * kLanes));
    }
};
#endif

// A row of activations is quantized as z ≈ low + step · level with levels 0…255, except for its few largest values,
// which would make the step too coarse for the others (Dettmers et al. 2022, LLM.int8). These outliers are multiplied
// with the weights in bfloat16. Integers are summed exactly.
struct Int8 {
    // Values above the third largest of the lanes' maxima are outliers.
    static constexpr int kOutlierLanes = 2, kMaxOutliers = 16;

    struct Row {
        float step, low;
        int outliers;
        int channel[kMaxOutliers];
        float value[kMaxOutliers];
    };
    typedef __m512i Sum;
    static constexpr int kPerCell = 4;

    static const void* weights(const LinearArguments& a) { return a.int8_weights; }

    // Magnitude above which a value of a row is an outlier, given the largest magnitude in each lane.
    static float threshold(__m512 sizes) {
        for (int i = 0; i < kOutlierLanes; i++) {
            __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(sizes));
            sizes = _mm512_mask_mov_ps(sizes, _mm512_cmp_ps_mask(sizes, largest, _CMP_EQ_OQ), _mm512_setzero_ps());
        }
        return _mm512_reduce_max_ps(sizes);
    }

    // Quantize a row into `cells`. `z` is scratch memory for one row.
    static void read(const LinearArguments& a, int64_t number, float* z, void* cells, Row& row) {
        __m512 sizes = _mm512_setzero_ps(), finite = _mm512_setzero_ps();
        for (int i = 0; i < a.in; i += kLanes) {
            __mmask16 lanes = first(a.in - i);
            __m512 v = _mm512_mul_ps(load(a.x, a.x_bfloat16, number * a.x_row + i, lanes),
                                     _mm512_maskz_loadu_ps(lanes, a.input_scale + i));
            _mm512_store_ps(z + i, v);
            sizes = _mm512_max_ps(sizes, _mm512_abs_ps(v));
            finite = _mm512_fmadd_ps(v, _mm512_setzero_ps(), finite);
        }
        // With more than kMaxOutliers, no value is treated as an outlier.
        float limit = threshold(sizes);
        __m512 low, high;
        for (;;) {
            __m512 bound = _mm512_set1_ps(limit);
            low = high = _mm512_setzero_ps();
            row.outliers = 0;
            for (int i = 0; i < a.in && row.outliers <= kMaxOutliers; i += kLanes) {
                __m512 v = _mm512_load_ps(z + i);
                __mmask16 out = _mm512_cmp_ps_mask(_mm512_abs_ps(v), bound, _CMP_GT_OQ);
                low = _mm512_mask_min_ps(low, _knot_mask16(out), low, v);
                high = _mm512_mask_max_ps(high, _knot_mask16(out), high, v);
                for (unsigned left = out; left; left &= left - 1) {
                    if (row.outliers < kMaxOutliers) row.channel[row.outliers] = i + __builtin_ctz(left);
                    row.outliers++;
                }
            }
            if (row.outliers <= kMaxOutliers) break;
            limit = INFINITY;
        }
        for (int i = 0; i < row.outliers; i++) {
            row.value[i] = z[row.channel[i]];
            z[row.channel[i]] = 0;
        }
        row.low = _mm512_reduce_min_ps(low);
        // The step must not be zero, even for a row of zeros.
        float range = _mm512_reduce_max_ps(high) - row.low;
        row.step = range > FLT_MIN * 255 ? range / 255 : FLT_MIN;
        __m512 inverse = _mm512_set1_ps(1 / row.step), offset = _mm512_set1_ps(-row.low / row.step);
        for (int i = 0; i < a.in; i += kLanes) {
            __m512i level = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_load_ps(z + i), inverse, offset));
            _mm_store_si128(reinterpret_cast<__m128i*>(static_cast<char*>(cells) + i), _mm512_cvtusepi32_epi8(level));
        }
        row.step += _mm512_reduce_add_ps(finite);  // adds 0, or NaN if a value is not finite
    }

    // Prefetch the weights of a row's outliers.
    static void prefetch(const LinearArguments& a, const Row& row, int64_t column) {
        const uint16_t* weights = static_cast<const uint16_t*>(a.weights) + column * a.in;
        for (int i = 0; i < row.outliers; i++)
            _mm_prefetch(reinterpret_cast<const char*>(weights + int64_t(row.channel[i]) * kColumns), _MM_HINT_T0);
    }

    static Sum zero() { return _mm512_setzero_si512(); }

    static Sum multiply_add(Sum sum, __m512i cell, __m512i columns) { return _mm512_dpbusd_epi32(sum, cell, columns); }

    static void results(const LinearArguments& a, const Row& row, int64_t column, const Sum* sums, __m512* y) {
        for (int j = 0; j < kColumns / kLanes; j++) {
            __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[j]), _mm512_set1_ps(row.step));
            y[j] = _mm512_fmadd_ps(_mm512_loadu_ps(a.weight_sums + column + j * kLanes), _mm512_set1_ps(row.low),
                                   product);
            y[j] = _mm512_fmadd_ps(y[j], _mm512_loadu_ps(a.weight_scale + column + j * kLanes),
                                   _mm512_loadu_ps(a.bias + column + j * kLanes));
        }
        const uint16_t* weights = static_cast<const uint16_t*>(a.weights) + column * a.in;
        for (int i = 0; i < row.outliers; i++) {
            // Pairs of columns that are 16 apart.
            __m512i pairs = _mm512_load_si512(weights + int64_t(row.channel[i]) * kColumns);
            __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
            __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
            y[0] = _mm512_fmadd_ps(_mm512_set1_ps(row.value[i]), even, y[0]);
            y[1] = _mm512_fmadd_ps(_mm512_set1_ps(row.value[i]), odd, y[1]);
        }
    }
};

}  // namespace
