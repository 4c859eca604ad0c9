// Dtypes of linear.cpp: conversion of a row of activations to cells of 32 bits, one step of a product, and conversion
// of the sums to float32. Each row is processed on its own, so its bits do not depend on other rows.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "avx512.h"
#include "linear.h"

namespace {

// A value that is not among a row's quantized ones. `row`: index in x.
struct Outlier {
    int64_t row;
    int channel;
    float value;
};

#ifdef __AVX512BF16__
// Pairs of bfloat16, summed in float32.
struct Bfloat16 {
    struct Row {};
    typedef __m512 Sum;
    static constexpr int kPerCell = 2, kMaxOutliers = 0;

    static const void* weights(const LinearArguments& a) { return a.weights; }

    static Outlier* read(const LinearArguments& a, int64_t number, float*, void* cells, Row&, Outlier* next) {
        for (int i = 0; i < up(a.in, kPerCell); i += kLanes)
            store(cells, true, i, load(a.x, a.x_bfloat16, number * a.x_row + i, first(a.in - i)),
                  first(up(a.in, 2) - i));
        return next;
    }

    static constexpr bool has_outliers(const Row*, int) { return false; }
    static void prefetch_outliers(const LinearArguments&, const Row*, int, int) {}
    static void add_outliers(const LinearArguments&, const Row*, int64_t, int, int, float*) {}

    static Sum zero() { return _mm512_setzero_ps(); }

    static Sum multiply_add(Sum sum, __m512i cell, __m512i columns) {
        return _mm512_dpbf16_ps(sum, (__m512bh)cell, (__m512bh)columns);
    }

    static void results(const LinearArguments& a, const Row&, int column, const Sum* sums, __m512& low, __m512& high) {
        low = _mm512_add_ps(sums[0], _mm512_loadu_ps(a.bias + column));
        high = _mm512_add_ps(sums[1], _mm512_loadu_ps(a.bias + column + kLanes));
    }
};
#endif

// A row of activations is quantized as z ≈ low + step · level with levels 0…255, except for its few largest values where
// they would make the step much too coarse for the others (Dettmers et al. 2022, LLM.int8). These outliers are
// multiplied with the weights in bfloat16. Integers are summed exactly.
struct Int8 {
    static constexpr int kMaxOutliers = 16;

    struct Row {
        float step, low;
        const Outlier *outliers, *outliers_end;
    };
    typedef __m512i Sum;
    static constexpr int kPerCell = 4;

    static const void* weights(const LinearArguments& a) { return a.int8_weights; }

    // Magnitude above which a value of a row is an outlier, given the largest magnitude in each lane: the third largest
    // of these, or infinity where the largest is not far above it.
    static float threshold(__m512 sizes) {
        float largest = _mm512_reduce_max_ps(sizes);
        unsigned near = _mm512_cmp_ps_mask(sizes, _mm512_set1_ps(largest * kNearLargest), _CMP_GT_OQ);
        if (__builtin_popcount(near) > kOutlierLanes) return INFINITY;
        for (int i = 0; i < kOutlierLanes; i++) {
            sizes = _mm512_mask_mov_ps(sizes, _mm512_cmp_ps_mask(sizes, _mm512_set1_ps(largest), _CMP_EQ_OQ),
                                       _mm512_setzero_ps());
            largest = _mm512_reduce_max_ps(sizes);
        }
        return largest;
    }

    // Quantize a row into `cells`, and append its outliers at `next`. `z` is scratch memory for one row. Returns the end
    // of the outliers.
    static Outlier* read(const LinearArguments& a, int64_t number, float* z, void* cells, Row& row, Outlier* next) {
        __m512 zero = _mm512_setzero_ps(), low = zero, high = zero, finite = zero;
        const void* x = a.x;
        int64_t begin = number * a.x_row;
        auto scale = [&](int i, __m512 values, __m512 scales) {
            __m512 v = _mm512_mul_ps(values, scales);
            _mm512_store_ps(z + i, v);
            low = _mm512_min_ps(v, low);  // without NaN
            high = _mm512_max_ps(v, high);
            finite = _mm512_fmadd_ps(v, zero, finite);
        };
        int i = 0;
        if (a.x_bfloat16)
            for (; i + kLanes <= a.in; i += kLanes)
                scale(i, load(x, true, begin + i, 0xffff), _mm512_loadu_ps(a.input_scale + i));
        else
            for (; i + kLanes <= a.in; i += kLanes)
                scale(i, load(x, false, begin + i, 0xffff), _mm512_loadu_ps(a.input_scale + i));
        __mmask16 rest = first(a.in - i);
        if (rest) scale(i, load(x, a.x_bfloat16, begin + i, rest), _mm512_maskz_loadu_ps(rest, a.input_scale + i));
        float limit = threshold(_mm512_max_ps(high, _mm512_sub_ps(zero, low)));
        row.outliers = next;
        if (limit < INFINITY) next = take_outliers(a.in, number, limit, z, &low, &high, next);
        row.outliers_end = next;
        row.low = _mm512_reduce_min_ps(low);
        // The step must not be zero, even for a row of zeros.
        float range = _mm512_reduce_max_ps(high) - row.low;
        row.step = range > FLT_MIN * 255 ? range / 255 : FLT_MIN;
        __m512 inverse = _mm512_set1_ps(1 / row.step), offset = _mm512_set1_ps(-row.low / row.step);
        for (i = 0; i < a.in; i += 4 * kLanes) {
            __m512i level[4];
#pragma GCC unroll 4
            for (int j = 0; j < 4; j++)
                level[j] = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_load_ps(z + i + j * kLanes), inverse, offset));
            __m512i half[] = {_mm512_packs_epi32(level[0], level[1]), _mm512_packs_epi32(level[2], level[3])};
            // Packing goes by parts of 128 bits.
            __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(half[0], half[1]));
            _mm512_storeu_si512(static_cast<char*>(cells) + i, bytes);
        }
        if (_mm512_cmp_ps_mask(finite, finite, _CMP_UNORD_Q)) row.step = NAN;
        return next;
    }

    // Replace a row's values above `limit` by zeros, and append them at `next`; with more than kMaxOutliers, none. Sets
    // `low` and `high` to the lanes' extremes of the others. Returns the end of the outliers.
    static Outlier* take_outliers(int in, int64_t number, float limit, float* z, __m512* low, __m512* high,
                                  Outlier* next) {
        __m512 bound = _mm512_set1_ps(limit), zero = _mm512_setzero_ps(), kept_low = zero, kept_high = zero;
        int count = 0;
        for (int i = 0; i < in; i += kLanes) {
            __m512 v = _mm512_load_ps(z + i);
            __mmask16 out = _mm512_cmp_ps_mask(_mm512_abs_ps(v), bound, _CMP_GT_OQ), kept = _knot_mask16(out);
            kept_low = _mm512_mask_min_ps(kept_low, kept, v, kept_low);
            kept_high = _mm512_mask_max_ps(kept_high, kept, v, kept_high);
            for (unsigned left = out; left; left &= left - 1, count++) {
                if (count == kMaxOutliers) return next;
                int channel = i + __builtin_ctz(left);
                next[count] = {number, channel, z[channel]};
            }
        }
        for (int i = 0; i < count; i++) z[next[i].channel] = 0;
        *low = kept_low;
        *high = kept_high;
        return next + count;
    }

    static Sum zero() { return _mm512_setzero_si512(); }

    static Sum multiply_add(Sum sum, __m512i cell, __m512i columns) { return _mm512_dpbusd_epi32(sum, cell, columns); }

    // Without outliers.
    static void results(const LinearArguments& a, const Row& row, int column, const Sum* sums, __m512& low,
                        __m512& high) {
        low = result(a, row, column, sums[0]);
        high = result(a, row, column + kLanes, sums[1]);
    }

    static bool has_outliers(const Row* rows, int count) {
        return rows[0].outliers != rows[count - 1].outliers_end;
    }

    static const uint16_t* outlier_weights(const LinearArguments& a, int column, const Outlier* outlier) {
        return static_cast<const uint16_t*>(a.weights) + int64_t(column) * a.in + int64_t(outlier->channel) * kColumns;
    }

    // Prefetch the weights of the outliers of some rows.
    static void prefetch_outliers(const LinearArguments& a, const Row* rows, int count, int column) {
        if (count <= 0) return;
        for (const Outlier* o = rows[0].outliers; o != rows[count - 1].outliers_end; o++)
            _mm_prefetch(reinterpret_cast<const char*>(outlier_weights(a, column, o)), _MM_HINT_T0);
    }

    // Add the products of the outliers of some rows, the first of which is `number`, to the rows' results. All in one
    // loop: a loop for each row, of none or a few steps, would be predicted wrongly again and again.
    static void add_outliers(const LinearArguments& a, const Row* rows, int64_t number, int count, int column,
                             float* results) {
        for (const Outlier* o = rows[0].outliers; o != rows[count - 1].outliers_end; o++) {
            // Pairs of columns that are 16 apart.
            __m512i pairs = _mm512_load_si512(outlier_weights(a, column, o));
            __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), value = _mm512_set1_ps(o->value);
            __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32(0xffff0000)));
            float* y = results + (o->row - number) * kColumns;
            _mm512_store_ps(y, _mm512_fmadd_ps(value, even, _mm512_load_ps(y)));
            _mm512_store_ps(y + kLanes, _mm512_fmadd_ps(value, odd, _mm512_load_ps(y + kLanes)));
        }
    }

   private:
    static __m512 result(const LinearArguments& a, const Row& row, int column, Sum sum) {
        __m512 product = _mm512_mul_ps(_mm512_cvtepi32_ps(sum), _mm512_set1_ps(row.step));
        __m512 y = _mm512_fmadd_ps(_mm512_loadu_ps(a.weight_sums + column), _mm512_set1_ps(row.low), product);
        return _mm512_fmadd_ps(y, _mm512_loadu_ps(a.weight_scale + column), _mm512_loadu_ps(a.bias + column));
    }

    static constexpr int kOutlierLanes = 2;
    static constexpr float kNearLargest = 0.7f;
};

// A block of rows as cells, row after row.
template <class N>
class RowBlock {
   public:
    typename N::Row* rows;
    char* cells;  // null if memory can't be allocated

    RowBlock(int count, int in, size_t cell_bytes) {
        size_t row_bytes = up(sizeof(typename N::Row) * count, size_t(64));
        size_t outlier_bytes = up(sizeof(Outlier) * N::kMaxOutliers * count, size_t(64));
        size_t z_bytes = sizeof(float) * up(in, 4 * kLanes);
        memory_ = aligned_alloc(64, row_bytes + outlier_bytes + z_bytes + up(cell_bytes, size_t(64)));
        rows = static_cast<typename N::Row*>(memory_);
        outliers_ = reinterpret_cast<Outlier*>(static_cast<char*>(memory_) + row_bytes);
        z_ = reinterpret_cast<float*>(reinterpret_cast<char*>(outliers_) + outlier_bytes);
        cells = memory_ == nullptr ? nullptr : reinterpret_cast<char*>(z_) + z_bytes;
        if (memory_ != nullptr) memset(z_, 0, z_bytes);
        clear();
    }
    ~RowBlock() { free(memory_); }

    // Forget the rows that were read.
    void clear() { next_outlier_ = outliers_; }

    // Read row `number` of x as row `index` of the block.
    void read(const LinearArguments& a, int64_t number, int index, void* to) {
        next_outlier_ = N::read(a, number, z_, to, rows[index], next_outlier_);
    }

   private:
    void* memory_;
    float* z_;
    Outlier *outliers_, *next_outlier_;
};

}  // namespace
