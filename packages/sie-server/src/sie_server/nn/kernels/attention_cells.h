// Copies of queries, keys and values into the cells that the products of attention.cpp read.
#pragma once

#include <cstdint>
#include <utility>

#include "attention_rows.h"
#ifdef __AMX_BF16__
#include "amx.h"
#endif

namespace {

#ifdef __AMX_BF16__
constexpr int kRows = 2 * kTileRows;        // of a product
constexpr int kStepCells = kTileBytes / 4;  // multiplied in one step
#elif defined(__AVX512F__)
constexpr int kRows = 12, kStepCells = 1;
#elif defined(__aarch64__)
constexpr int kRows = 12, kStepCells = 1;  // NEON, of which every such processor has 32 registers
#else
constexpr int kRows = 6, kStepCells = 1;
#endif
constexpr int kPanel = 2 * kLanes;  // queries computed together; kRows · 2 sums fill the registers

// Exchange the off-diagonal kStep × kStep blocks of two rows that are kStep apart, a step of a transposition.
template <int kStep, int... kLane>
inline void exchange(Bits& a, Bits& b, std::integer_sequence<int, kLane...>) {
    Bits upper = __builtin_shufflevector(a, b, (kLane & kStep ? kLanes + kLane - kStep : kLane)...);
    b = __builtin_shufflevector(a, b, (kLane & kStep ? kLanes + kLane : kLane + kStep)...);
    a = upper;
}

template <int kStep = kLanes / 2>
inline void transpose(Bits (&rows)[kLanes]) {
    if constexpr (kStep > 0) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; i++)
            if (!(i & kStep)) exchange<kStep>(rows[i], rows[i + kStep], std::make_integer_sequence<int, kLanes>());
        transpose<kStep / 2>(rows);
    }
}

// Copy keys to `to` [keys, depth], with rows of zeros up to a multiple of what a product needs. Returns their scale.
inline float copy_keys(const HeadRows& keys, int depth, Cell* to) {
    float scale = row_scale(keys, 0, keys.count);
    alignas(64) float inverse[kMaxHeadDim];
    fill_inverse(scale, depth * kPair, inverse);
    for (int key = 0; key < up(keys.count, kStepCells); key++)
        read_row(keys, key, reinterpret_cast<Scalar*>(to + int64_t(key) * depth), depth * kPair, inverse);
    return scale;
}

// Copy `count` queries from `first` on, transposed, to `to` [depth, kPanel], padded with zeros. Sets the
// scale of each.
inline void copy_queries(const HeadRows& queries, int first, int count, int depth, Cell* to, float* scales) {
#ifdef INTEGER_PRODUCTS
    alignas(64) float values[kMaxHeadDim * kLanes];  // [channels, kLanes]
    int channels = up(queries.width, kLanes);
    for (int query = 0; query < count; query += kLanes) {
        __m512i magnitudes = _mm512_setzero_si512();
        for (int d = 0; d < channels; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = (Bits)read_values(queries, first + query + i, d);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) {
                magnitudes = larger_magnitudes(magnitudes, (__m512)block[i]);
                store(values + (d + i) * kLanes, block[i]);
            }
        }
        __m512 scale = logit_scales(magnitudes, queries.width);
        __m512 inverse = _mm512_div_ps(_mm512_set1_ps(1), scale);
        _mm512_storeu_ps(scales + query, scale);
        auto level = [&](int channel) {
            return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_load_ps(values + channel * kLanes), inverse));
        };
        for (int d = 0; d < depth; d++) {
            __m512i cells = _mm512_setzero_si512();
            if (2 * d < channels)
                cells = _mm512_mask_blend_epi16(0xaaaaaaaa, level(2 * d), _mm512_slli_epi32(level(2 * d + 1), 16));
            store(to + d * kPanel + query, cells);
        }
    }
#else
    alignas(64) Scalar rows[kLanes][kMaxHeadDim];
    for (int query = 0; query < count; query += kLanes) {
        for (int i = 0; i < kLanes; i++) {
            read_row(queries, first + query + i, rows[i], depth * kPair, nullptr);
            scales[query + i] = 1;
        }
        for (int d = 0; d < depth; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = load<Bits>(rows[i] + d * kPair);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) store(to + (d + i) * kPanel + query, block[i]);
        }
    }
#endif
}

inline Bits pair(const Scalar* low, const Scalar* high) {
#if defined(__AVX512BF16__) || defined(INTEGER_PRODUCTS)
    __m512i a = _mm512_cvtepu16_epi32(load<__m256i>(low)), b = _mm512_cvtepu16_epi32(load<__m256i>(high));
    return (Bits)_mm512_or_si512(a, _mm512_slli_epi32(b, 16));
#else
    (void)high;
    return load<Bits>(low);
#endif
}

// Copy values, transposed, to `to` [width, row], in cells of keys; padded with zeros. Sets the channels' scales.
inline void copy_values(const HeadRows& values, int width, int row, Cell* to, float* scales) {
    alignas(64) Scalar rows[kPair * kLanes][kMaxHeadDim];
    alignas(64) float inverse[kMaxHeadDim];
    channel_scales(values, scales);
    if (kIntegers)
        for (int d = 0; d < width; d++) inverse[d] = 1 / scales[d];
    for (int key = 0; key < values.count; key += kPair * kLanes) {
        for (int i = 0; i < kPair * kLanes; i++) read_row(values, key + i, rows[i], width, inverse);
        for (int d = 0; d < width; d += kLanes) {
            Bits block[kLanes];
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) block[i] = pair(rows[kPair * i] + d, rows[kPair * i + kPair - 1] + d);
            transpose(block);
#pragma GCC unroll 16
            for (int i = 0; i < kLanes; i++) store(to + int64_t(d + i) * row + key / kPair, block[i]);
        }
    }
}

}  // namespace
