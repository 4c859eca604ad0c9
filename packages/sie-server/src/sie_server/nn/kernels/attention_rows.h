// Rows of queries, keys and values in the dtype of the products of attention.cpp: float32, bfloat16, or integers of 16
// bits, which AVX512-VNNI multiplies twice as fast as floats, and whose sums are exact.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "attention.h"
#include "vectors.h"
#ifdef __AVX512F__
#include <immintrin.h>
#endif

namespace {

typedef uint32_t Bits __attribute__((vector_size(4 * kLanes)));

// Operand of one step of a product: a float, or a pair of bfloat16 or of integers with the first in the lower half.
typedef uint32_t Cell __attribute__((may_alias));
#if defined(__AVX512BF16__)
typedef uint16_t Scalar;
constexpr bool kIntegers = false;
#elif defined(__AVX512VNNI__)
typedef int16_t Scalar;
constexpr bool kIntegers = true;
#define INTEGER_PRODUCTS
#else
typedef float Scalar;
constexpr bool kIntegers = false;
#endif
constexpr int kPair = sizeof(Cell) / sizeof(Scalar);
constexpr int kKeys = 256;  // keys of a block

constexpr int up(int n, int to) { return (n + to - 1) / to * to; }

// Rows of one head of q, k or v.
struct HeadRows {
    const char* first;
    int64_t stride;  // in bytes
    int count, width;
    bool bfloat16;

    HeadRows(const void* base, bool bfloat16, int64_t element, int64_t row, int count, int width)
        : first(static_cast<const char*>(base) + element * (bfloat16 ? 2 : 4)),
          stride(row * (bfloat16 ? 2 : 4)),
          count(count),
          width(width),
          bfloat16(bfloat16) {}
};

#ifdef INTEGER_PRODUCTS
// An integer is a value over a scale, rounded. The largest integers are such that no sum of products overflows: of a
// query and a key over their channels, and of weights, up to 2^kWeightBits, and values over a block of keys.
constexpr int kWeightBits = 12;
constexpr float kValueLevels = float((1u << (31 - kWeightBits)) / kKeys - 1);

// Values of row `index` from `begin` on; zeros after the last value and the last row.
inline __m512 read_values(const HeadRows& rows, int index, int begin) {
    int left = index < rows.count ? rows.width - begin : 0;
    __mmask16 lanes = left >= kLanes ? 0xffff : left <= 0 ? 0 : (1u << left) - 1;
    const char* from = rows.first + index * rows.stride + begin * (rows.bfloat16 ? 2 : 4);
    if (!rows.bfloat16) return _mm512_maskz_loadu_ps(lanes, from);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, from)), 16));
}

// The larger magnitudes, as bits: these order infinity and NaN above everything else.
inline __m512i larger_magnitudes(__m512i bits, __m512 x) {
    return _mm512_max_epi32(bits, _mm512_castps_si512(_mm512_abs_ps(x)));
}

// Scales at which the largest magnitudes, or `least` where they are less, become `levels`; NaN if one is not finite.
inline __m512 scales_of(__m512i magnitudes, float least, float levels) {
    __m512 largest = _mm512_castsi512_ps(magnitudes);
    __m512 scales = _mm512_div_ps(_mm512_max_ps(largest, _mm512_set1_ps(least)), _mm512_set1_ps(levels));
    return _mm512_add_ps(scales, _mm512_mul_ps(largest, _mm512_setzero_ps()));
}

// Scales of queries and keys. The product of both is not zero, even for zeros, since it multiplies -∞ too.
inline __m512 logit_scales(__m512i magnitudes, int head_dim) {
    // A sum of `head_dim` products fits into 32 bits, and one integer into 16.
    float levels = fminf(floorf(sqrtf(float(INT32_MAX) / head_dim)) - 1, INT16_MAX);
    return scales_of(magnitudes, 1e-12f, levels);
}

// One scale for `count` rows from `begin` on, for products of queries and keys.
inline float row_scale(const HeadRows& rows, int begin, int count) {
    __m512i magnitudes = _mm512_setzero_si512();
    for (int row = begin; row < begin + count; row++)
        for (int i = 0; i < rows.width; i += kLanes)
            magnitudes = larger_magnitudes(magnitudes, read_values(rows, row, i));
    __m512i largest = _mm512_set1_epi32(_mm512_reduce_max_epi32(magnitudes));
    return _mm512_cvtss_f32(logit_scales(largest, rows.width));
}

// Scales of the channels of all rows, [up(width, kLanes)], for values.
inline void channel_scales(const HeadRows& rows, float* scales) {
    for (int i = 0; i < rows.width; i += kLanes) {
        __m512i magnitudes = _mm512_setzero_si512();
        for (int row = 0; row < rows.count; row++)
            magnitudes = larger_magnitudes(magnitudes, read_values(rows, row, i));
        _mm512_storeu_ps(scales + i, scales_of(magnitudes, 1e-34f, kValueLevels));
    }
}

// Copy row `index` over scales, of which `inverse` [width] has the reciprocals, padded with zeros to `width` integers.
inline void read_row(const HeadRows& rows, int index, Scalar* to, int width, const float* inverse) {
    for (int i = 0; i < width; i += kLanes) {
        __m512 scaled = _mm512_mul_ps(read_values(rows, index, i), _mm512_loadu_ps(inverse + i));
        store(to + i, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(scaled)));
    }
}
#else
constexpr int kWeightBits = 0;  // no scales
inline float row_scale(const HeadRows&, int, int) { return 1; }
inline void channel_scales(const HeadRows&, float*) {}

inline uint32_t to_bfloat16(float x) {
    uint32_t bits = load<uint32_t>(&x);
    return x != x ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline float from_bfloat16(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    return load<float>(&bits);
}

// Copy row `index` in the dtype of the products, padded with zeros to `width` elements; zeros after the last row.
inline void read_row(const HeadRows& rows, int index, Scalar* to, int width, const float*) {
    typedef uint16_t Half __attribute__((may_alias));
    typedef float Single __attribute__((may_alias));
    int n = index < rows.count ? rows.width : 0;
    const char* from = rows.first + index * rows.stride;
    if (rows.bfloat16 == (sizeof(Scalar) == 2)) {
        constexpr int kPerVec = sizeof(Vec) / sizeof(Scalar);
        int i = 0;
        for (; i + kPerVec <= n; i += kPerVec) store(to + i, load<Vec>(from + i * sizeof(Scalar)));
        if (i < n) memcpy(to + i, from + i * sizeof(Scalar), (n - i) * sizeof(Scalar));
    } else if (rows.bfloat16) {
        for (int i = 0; i < n; i++) to[i] = from_bfloat16(reinterpret_cast<const Half*>(from)[i]);
    } else {
        for (int i = 0; i < n; i++) to[i] = to_bfloat16(reinterpret_cast<const Single*>(from)[i]);
    }
    if (n < width) memset(to + n, 0, (width - n) * sizeof(Scalar));
}
#endif

// Reciprocals of one scale for all channels.
inline void fill_inverse(float scale, int width, float* inverse) {
    if (kIntegers)
        for (int i = 0; i < width; i++) inverse[i] = 1 / scale;
}

}  // namespace
